"use strict";
// Keeps a page up to date by server-sent events. Texts are set as text and never as HTML,
// so nothing that an update holds can become part of the page.
(() => {
  const body = document.body;
  const live = document.getElementById("live");
  const trouble = document.getElementById("trouble");
  const feedMost = 100;
  const clockTolerance = 5000; // ms
  let held = false;
  let kept = []; // lines that came while the feed is held
  let lastLine = 0;

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // A chart is drawn anew when the colours change; its points stay.
  const charts = new Map();
  const draw = (box) => {
    const was = charts.get(box.dataset.chart);
    if (was) was.plot.destroy();
    const names = box.dataset.series.split(",");
    const points = was ? was.points : [[], ...names.map(() => [])];
    const line = { stroke: color("--line"), width: 1 };
    const axis = { stroke: color("--quiet"), grid: line, ticks: line };
    const times = (_, at) => at.map((t) => Number.isInteger(t) ? new Date(t * 1000).toISOString().slice(11, 19) : "");
    const plot = new uPlot({
      width: Math.max(240, box.clientWidth), height: 220, scales: { y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } },
      series: [{}, ...names.map((label, i) => ({ label, stroke: color("--series-" + (i + 1)), width: 2, points: { show: false } }))],
      axes: [{ ...axis, values: times, space: 80 }, { ...axis, size: 56 }], cursor: { show: false }, legend: { live: false },
    }, points, box);
    charts.set(box.dataset.chart, { box, plot, points });
  };
  const boxes = [...document.querySelectorAll("[data-chart]")];
  boxes.forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => boxes.forEach(draw));
  new ResizeObserver(() => charts.forEach(({ box, plot }) => {
    if (Math.abs(plot.width - box.clientWidth) > 1) plot.setSize({ width: Math.max(240, box.clientWidth), height: 220 });
  })).observe(document.getElementById("main"));

  const plot = (name, series, whole) => {
    const chart = charts.get(name);
    if (!chart) return;
    if (whole) {
      chart.points = series;
    } else {
      const last = chart.points[0][chart.points[0].length - 1] || 0;
      series[0].forEach((at, i) => {
        if (at > last) series.forEach((s, j) => chart.points[j].push(s[i]));
      });
      while (chart.points[0].length > 300) chart.points.forEach((s) => s.shift());
    }
    chart.plot.setData(chart.points);
  };

  const setText = (texts) => {
    document.querySelectorAll("[data-text]").forEach((el) => {
      const text = texts[el.dataset.text];
      if (text !== undefined && el.textContent !== text) el.textContent = text;
    });
  };

  const setStates = (states) => {
    document.querySelectorAll("[data-state-of]").forEach((el) => {
      const state = states[el.dataset.stateOf];
      if (state !== undefined) el.dataset.state = state;
    });
  };

  const setTrouble = (sentences) => {
    const now = sentences.join("\n");
    if (trouble.dataset.shown === now) return;
    trouble.dataset.shown = now;
    trouble.replaceChildren(...sentences.map((s) => {
      const p = document.createElement("p");
      p.textContent = s;
      return p;
    }));
    trouble.hidden = sentences.length === 0;
  };

  const links = { 2: "/console/call?id=", 3: "/console/order?id=", 4: "/console/number?number=" };
  const feed = document.getElementById("feed");
  if (feed) lastLine = Math.max(0, ...[...feed.rows].map((r) => Number(r.dataset.id)));
  const addLines = (lines) => {
    if (held) {
      kept = kept.concat(lines).slice(-feedMost);
      return;
    }
    for (const line of lines) {
      if (line.id <= lastLine) continue;
      lastLine = line.id;
      const row = document.createElement("tr");
      row.dataset.id = line.id;
      line.cells.forEach((text, i) => {
        const cell = row.insertCell();
        if (!text || !links[i]) {
          cell.textContent = text;
          return;
        }
        const a = document.createElement("a");
        a.href = links[i] + encodeURIComponent(text);
        a.textContent = text;
        cell.append(a);
      });
      feed.prepend(row);
    }
    while (feed.rows.length > feedMost) feed.lastElementChild.remove();
    document.getElementById("no-calls").hidden = feed.rows.length > 0;
  };
  const hold = document.getElementById("hold");
  if (hold) {
    hold.addEventListener("click", () => {
      held = !held;
      hold.setAttribute("aria-pressed", String(held));
      hold.textContent = held ? "Go on" : "Hold";
      addLines(kept.splice(0));
    });
  }

  const source = new EventSource("/console/live?view=" + body.dataset.view + (body.dataset.query ? "&" + body.dataset.query : ""));
  const say = (text) => { if (live.textContent !== text) live.textContent = text; };
  source.onmessage = (message) => {
    const u = JSON.parse(message.data);
    const off = Date.now() - u.now;
    say("Up to date.");
    setTrouble(Math.abs(off) > clockTolerance
      ? [...u.trouble, "The clock of this computer and that of callmask differ by " + Math.round(Math.abs(off) / 1000) + " s; times here are callmask's."]
      : u.trouble);
    setText(u.text);
    if (u.state) setStates(u.state);
    for (const [name, series] of Object.entries(u.series || {})) plot(name, series, u.reset);
    if (u.feed && feed) addLines(u.feed);
    body.dataset.updates = Number(body.dataset.updates || 0) + 1;
  };
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) { // signed out, or too many watch
      say("Not up to date any more: load the page again.");
      setTrouble(["This page is not kept up to date any more. Load it again; if your sign-in has run out, it asks for the token."]);
      return;
    }
    say("Connecting again…");
    setTrouble(["callmask does not answer. What is shown is from before; this page goes on trying."]);
  };
})();
