"use strict";
// All signals of an utterance run at once, sample for sample, and all but one are muted: switching is a change of
// volume, so the position stays and there is no gap.
const player = (() => {
  const FADE = 0.005; // seconds; a harder change of volume would click
  const rows = [...document.querySelectorAll(".row")].map(element => ({
    element,
    id: element.dataset.id,
    signals: [...element.querySelectorAll(".signal")],
  }));
  const waiting = {}; // what to do once an utterance's script has run, by its id
  const now = document.getElementById("now");
  const blindBox = document.getElementById("blind");
  const switches = document.getElementById("switch");
  const losses = row => row.signals.filter(signal => signal.dataset.kind === "loss");
  const canBlind = losses(rows[0]).length > 1;
  let context = null, current = 0, active = 0, sources = [], gains = [], started = 0, offset = 0, duration = 1;
  let request = 0; // the newest call of play(): an older one that is still loading gives way

  function load(row) {
    row.buffers ??= new Promise((resolve, reject) => {
      waiting[row.id] = resolve;
      const script = document.createElement("script");
      script.src = `audio/${row.id}.js`;
      script.onerror = () => { row.buffers = null; reject(new Error(`${script.src} cannot be read`)); };
      document.head.append(script);
    }).then(contents => Promise.all(row.signals.map(signal => {
      const bytes = Uint8Array.from(atob(contents[signal.dataset.number]), c => c.charCodeAt(0));
      return context.decodeAudioData(bytes.buffer);
    })));
    return row.buffers;
  }

  function position() {
    return sources.length ? (offset + context.currentTime - started) % duration : offset;
  }

  function stop() {
    offset = position();
    request++;
    for (const source of sources) source.stop();
    sources = [];
    show();
  }

  async function play(from = offset) {
    context ??= new AudioContext();
    context.resume();
    const mine = ++request, row = rows[current];
    let buffers;
    try {
      buffers = await load(row);
    } catch (error) {
      now.textContent = error.message;
      return;
    }
    if (mine !== request) return;
    for (const source of sources) source.stop();
    duration = Math.min(...buffers.map(buffer => buffer.duration));
    offset = from % duration;
    started = context.currentTime + 0.02;
    gains = buffers.map((_, n) => new GainNode(context, { gain: n === active ? 1 : 0 }));
    sources = buffers.map((buffer, n) => {
      const source = new AudioBufferSourceNode(context, { buffer, loop: true, loopEnd: duration });
      source.connect(gains[n]).connect(context.destination);
      source.start(started, offset);
      return source;
    });
    show();
  }

  function select(row, signal) {
    const sameRow = row === current;
    current = row;
    active = signal;
    if (!sameRow) {
      const playing = sources.length > 0;
      stop();
      offset = 0;
      if (playing) play();
    } else if (sources.length) {
      gains.forEach((gain, n) => {
        gain.gain.cancelScheduledValues(context.currentTime);
        gain.gain.setTargetAtTime(n === active ? 1 : 0, context.currentTime, FADE);
      });
    }
    show();
  }

  // The order in which signals stand on the page, which blind mode shuffles.
  const order = row => [...row.element.querySelectorAll(".signal")].map(signal => row.signals.indexOf(signal));

  function step(by) {
    const shown = order(rows[current]);
    select(current, shown[(shown.indexOf(active) + by + shown.length) % shown.length]);
  }

  function stepRow(by) {
    select((current + by + rows.length) % rows.length, active);
    rows[current].element.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  // The bar's own buttons for the signals of the current utterance: on a phone its cards may be out of sight.
  function showSwitches() {
    const shown = order(rows[current]);
    while (switches.childElementCount < shown.length) switches.append(document.createElement("button"));
    shown.forEach((number, n) => {
      const button = switches.children[n];
      button.textContent = rows[current].signals[number].querySelector(".play").textContent;
      button.setAttribute("aria-pressed", String(number === active));
      button.onclick = () => {
        select(current, number);
        if (!sources.length) play();
      };
    });
  }

  function setBlind(blind) {
    blindBox.checked = blind;
    document.body.classList.toggle("blind", blind);
    for (const row of rows) {
      const shown = losses(row);
      if (blind) {
        for (let n = shown.length - 1; n > 0; n--) {
          const other = Math.floor(Math.random() * (n + 1));
          [shown[n], shown[other]] = [shown[other], shown[n]];
        }
      }
      const clean = row.signals.at(-1);
      shown.forEach((signal, n) => {
        clean.before(signal);
        signal.querySelector(".play").textContent = blind ? String.fromCharCode(65 + n) : signal.dataset.name;
      });
    }
    show();
  }

  function show() {
    rows.forEach((row, r) => {
      row.element.classList.toggle("current", r === current);
      row.signals.forEach((signal, n) => {
        const here = r === current && n === active;
        signal.classList.toggle("active", here);
        signal.querySelector(".play").setAttribute("aria-pressed", String(here && sources.length > 0));
      });
    });
    const signal = rows[current].signals[active];
    const title = rows[current].element.querySelector("h3").textContent;
    now.textContent = `${signal.querySelector(".play").textContent} · ${title}`;
    document.getElementById("toggle").textContent = sources.length ? "■" : "▶";
    showSwitches();
  }

  function draw() {
    for (const head of rows[current].element.querySelectorAll(".head")) {
      head.style.left = `${100 * Math.max(position(), 0) / duration}%`;
    }
    requestAnimationFrame(draw);
  }

  rows.forEach((row, r) => row.signals.forEach((signal, n) => {
    signal.querySelector(".play").onclick = () => {
      if (r === current && n === active && sources.length) return stop();
      select(r, n);
      if (!sources.length) play();
    };
    signal.querySelector(".picture").onclick = event => {
      const box = event.currentTarget.getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      select(r, n);
      context ??= new AudioContext();
      load(rows[r]).then(buffers => play(share * buffers[n].duration));
    };
  }));
  const toggle = () => sources.length ? stop() : play();
  document.getElementById("toggle").onclick = toggle;
  document.getElementById("previous").onclick = () => stepRow(-1);
  document.getElementById("next").onclick = () => stepRow(1);
  blindBox.onchange = () => setBlind(blindBox.checked);
  const keys = {
    " ": toggle, ArrowLeft: () => step(-1), ArrowRight: () => step(1),
    ArrowUp: () => stepRow(-1), ArrowDown: () => stepRow(1),
    b: () => canBlind && setBlind(!blindBox.checked),
  };
  // Keys act where the focus is in the players or the bar; elsewhere they scroll the page as everywhere.
  for (const region of [document.getElementById("listen"), document.getElementById("bar")]) {
    region.addEventListener("keydown", event => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, a")) return;
      const shown = order(rows[current]), digit = Number(event.key) - 1;
      const act = keys[event.key] ?? (digit in shown ? () => select(current, shown[digit]) : null);
      if (!act) return;
      event.preventDefault();
      act();
    });
    region.addEventListener("keyup", event => { // a button would be clicked by space as well
      if (event.key === " " && event.target.closest("button")) event.preventDefault();
    });
  }
  document.getElementById("blinding").hidden = !canBlind;
  show();
  draw();

  return {
    provide: (id, contents) => waiting[id](contents),
    state: () => ({ row: current, signal: active, playing: sources.length > 0, position: position(),
      gains: gains.map(gain => gain.gain.value), clock: context?.state }),
  };
})();
