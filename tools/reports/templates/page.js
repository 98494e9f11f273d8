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
  const prefer = document.getElementById("prefer");
  const blindBox = document.getElementById("blind");
  const summary = document.getElementById("preferences");
  const switches = document.getElementById("switch");
  const place = document.getElementById("listen");
  const losses = rows[0].signals.filter(signal => signal.dataset.kind === "loss").map(signal => signal.dataset.name);
  const ballot = readBallot();
  const preferences = new Map(Object.entries(ballot.preferences)); // name of the preferred signal by utterance's id
  let context = null, current = 0, active = 0, sources = [], gains = [], started = 0, offset = 0, duration = 1;
  let request = 0; // the newest call of play(): an older one that is still loading gives way

  // Votes outlive a reload; a browser that keeps nothing loses them with the page, and says so by keeping no count.
  function readBallot() {
    const fresh = { listener: crypto.getRandomValues(new Uint32Array(3)).join("-"), preferences: {} };
    try {
      return JSON.parse(localStorage.getItem(ballotKey())) ?? fresh;
    } catch {
      return fresh;
    }
  }

  function ballotKey() {
    return `votes ${document.body.dataset.comparison}`;
  }

  function keepBallot() {
    ballot.preferences = Object.fromEntries(preferences);
    try {
      localStorage.setItem(ballotKey(), JSON.stringify(ballot));
    } catch { /* a browser that may not keep anything */ }
  }

  function votesFile() {
    const votes = rows.filter(row => preferences.has(row.id)).map(row => ({
      noise_type: row.element.dataset.noise,
      snr_db: Number(row.element.dataset.snr),
      utterance: Number(row.element.dataset.utterance),
      preferred: preferences.get(row.id),
      among: losses,
    }));
    return { format: 1, comparison: document.body.dataset.comparison, listener: ballot.listener, votes };
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(votesFile(), null, 1)], { type: "application/json" }));
    link.download = `votes_${ballot.listener}.json`;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  function forget() {
    preferences.clear();
    keepBallot();
    show();
  }

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
      const shown = row.signals.filter(signal => signal.dataset.kind === "loss");
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

  function vote() {
    const signal = rows[current].signals[active];
    if (blindBox.checked && signal.dataset.kind === "loss") preferences.set(rows[current].id, signal.dataset.name);
    keepBallot();
    show();
  }

  function show() {
    rows.forEach((row, r) => {
      row.element.classList.toggle("current", r === current);
      row.signals.forEach((signal, n) => {
        const here = r === current && n === active;
        signal.classList.toggle("active", here);
        signal.classList.toggle("preferred", preferences.get(row.id) === signal.dataset.name);
        signal.querySelector(".play").setAttribute("aria-pressed", String(here && sources.length > 0));
      });
    });
    const signal = rows[current].signals[active];
    const title = rows[current].element.querySelector("h3").textContent;
    now.textContent = `${signal.querySelector(".play").textContent} · ${title}`;
    document.getElementById("toggle").textContent = sources.length ? "■" : "▶";
    showSwitches();
    prefer.hidden = !blindBox.checked || signal.dataset.kind !== "loss";
    const counts = {};
    for (const name of preferences.values()) counts[name] = (counts[name] ?? 0) + 1;
    const ranked = Object.entries(counts).sort((a, b) => b[1] - a[1]).map(([name, count]) => `${name} ${count}`);
    document.getElementById("votes").hidden = !preferences.size;
    summary.textContent = !preferences.size ? "" :
      `${preferences.size} of ${rows.length} utterances judged` +
      (blindBox.checked ? "; leave blind mode to see for whom." : `, preferred: ${ranked.join(", ")}.`);
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
  prefer.onclick = vote;
  blindBox.onchange = () => setBlind(blindBox.checked);
  const keys = {
    " ": toggle, ArrowLeft: () => step(-1), ArrowRight: () => step(1),
    ArrowUp: () => stepRow(-1), ArrowDown: () => stepRow(1),
    b: () => losses.length > 1 && setBlind(!blindBox.checked), p: vote,
  };
  // Keys act where the focus is in the players or the bar; elsewhere they scroll the page as everywhere.
  for (const region of [place, document.getElementById("bar")]) {
    region.addEventListener("keydown", event => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, a, #votes")) return;
      const shown = order(rows[current]), digit = Number(event.key) - 1;
      const act = keys[event.key] ?? (digit in shown ? () => select(current, shown[digit]) : null);
      if (!act) return;
      event.preventDefault();
      act();
    });
    region.addEventListener("keyup", event => { // a button would be clicked by space as well
      if (event.key === " " && event.target.closest("button") && !event.target.closest("#votes")) event.preventDefault();
    });
  }
  document.getElementById("save").onclick = save;
  document.getElementById("forget").onclick = forget;
  document.getElementById("blinding").hidden = losses.length < 2;
  show();
  draw();

  return {
    provide: (id, contents) => waiting[id](contents),
    state: () => ({ row: current, signal: active, playing: sources.length > 0, position: position(),
      votes: votesFile(), gains: gains.map(gain => gain.gain.value), clock: context?.state }),
  };
})();
