"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const figures = JSON.parse(document.getElementById("data").textContent);
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  // The theme of the page, which figures take over.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  function themed(layout) {
    const axis = (own) => ({
      gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--line"), automargin: true, ...own,
    });
    return {
      ...layout,
      xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
      shapes: (layout.shapes || []).map((shape) => ({ ...shape, line: { ...shape.line, color: colour("--quiet") } })),
      font: { color: colour("--ink"), family: "system-ui, sans-serif", size: innerWidth > 1600 ? 16 : 13 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 56, r: 12, t: 12, b: 48 },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, ...layout.legend },
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
      hovermode: "closest", dragmode: false, autosize: true,
    };
  }
  const settings = { responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false };

  // Figures, each when it comes into view.
  const drawn = new Map();
  function draw(card) {
    const figure = figures[card.dataset.figure];
    if (drawn.has(card) || !window.Plotly || !figure) return;
    const plot = card.querySelector(".plot");
    drawn.set(card, plot);
    Plotly.newPlot(plot, figure.data, themed(figure.layout), settings).then(() => { card.dataset.drawn = "yes"; });
  }
  const seen = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
    { rootMargin: "300px" },
  );
  function retheme() {
    for (const [card, plot] of drawn) {
      const { data } = plot;
      Plotly.react(plot, data, themed(figures[card.dataset.figure].layout), settings);
    }
  }
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    retheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme);

  // Films: a slider, and a button that moves it.
  for (const card of all("[data-figure]")) {
    const film = card.querySelector(".film");
    if (!film) continue;
    const { steps, frames } = figures[card.dataset.figure];
    const [play, slider, said] = ["button", "input", "output"].map((name) => film.querySelector(name));
    let timer = null;
    function show(i, duration) {
      said.value = `step ${steps[i]}`;
      slider.setAttribute("aria-valuetext", said.value);
      const plot = drawn.get(card);
      if (!plot) return;
      const data = frames[i].map(([x, y]) => ({ x, y }));
      Plotly.animate(plot, { data, traces: data.map((_, k) => k) }, {
        mode: "immediate", transition: { duration, easing: "linear" }, frame: { duration, redraw: false },
      }).catch(() => undefined); // A later step took the place of this one.
    }
    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "▶ Play";
      play.setAttribute("aria-label", "Play");
    }
    play.addEventListener("click", () => {
      if (timer !== null) return stop();
      draw(card);
      play.textContent = "❚❚ Pause";
      play.setAttribute("aria-label", "Pause");
      if (+slider.value >= steps.length - 1) slider.value = 0;
      const every = Math.max(80, Math.min(700, 6000 / steps.length));
      show(+slider.value, 0);
      timer = setInterval(() => {
        slider.value = +slider.value + 1;
        show(+slider.value, still.matches ? 0 : every);
        if (+slider.value >= steps.length - 1) stop();
      }, every);
    });
    slider.addEventListener("input", () => { stop(); show(+slider.value, 0); });
  }

  // One of several figures.
  for (const pick of all("select.pick")) {
    const cards = all("[data-pick]", pick.closest("section"));
    pick.addEventListener("change", () => {
      for (const card of cards) card.hidden = card.dataset.pick !== pick.value;
    });
  }

  // Tables, sorted by a column; once more in the other direction; what has no number comes last.
  const words = new Intl.Collator(undefined, { numeric: true });
  function sort(table, column, way) {
    const key = (row) => {
      const cell = row.cells[column];
      return cell.dataset.order === undefined ? null : +cell.dataset.order;
    };
    const rows = [...table.tBodies[0].rows];
    const numbers = rows.some((row) => key(row) !== null);
    rows.sort((a, b) => {
      if (!numbers) return way * words.compare(a.cells[column].textContent, b.cells[column].textContent);
      const [x, y] = [key(a), key(b)];
      return x === null || y === null ? (x === null) - (y === null) : way * (x - y);
    });
    table.tBodies[0].append(...rows);
  }
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      sort(table, column, rising ? 1 : -1);
    }));
  }

  // BibTeX.
  const copy = document.getElementById("copy");
  copy?.addEventListener("click", async () => {
    const code = document.querySelector("#bibtex code");
    getSelection().selectAllChildren(code);
    try {
      await navigator.clipboard.writeText(code.textContent);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Selected: press Ctrl-C";
    }
  });

  // Plotly, unpacked.
  async function unpack() {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    all("[data-figure]").forEach((card) => seen.observe(card));
    document.documentElement.dataset.ready = "yes";
  }
  unpack().catch(() => { document.getElementById("broken").hidden = false; });
})();
