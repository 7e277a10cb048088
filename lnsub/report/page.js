// Draws a report's charts, and lets a reader pick languages and a sparsity out of all of them. Nothing is loaded.
"use strict";
(() => {
  const { themes, specs } = JSON.parse(document.getElementById("charts").textContent);
  const figures = [...document.querySelectorAll("figure[data-chart]")];
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const views = new Map();
  let picked = [];
  let level = { sparsity: "", series: "" };

  const screenTheme = () => (prefersDark.matches ? "dark" : "light");

  // A chart has those of the parameters that it can show: it need not be of languages, or of several sparsities.
  function tell(view, spec) {
    const there = new Set((spec.params ?? []).map((parameter) => parameter.name));
    if (there.has("picked")) view.signal("picked", picked);
    if (there.has("level")) view.signal("level", level.series);
    view.run();
  }

  async function draw(figure, theme) {
    const spec = specs[figure.dataset.chart];
    const place = figure.querySelector(".chart");
    views.get(figure)?.finalize();
    const options = { mode: "vega-lite", renderer: "svg", actions: false, config: themes[theme], tooltip: { theme } };
    const result = await vegaEmbed(place, spec, options);
    views.set(figure, result.view);
    tell(result.view, spec);
    // A narrow page shrinks a chart a little, and scrolls it from there on.
    const svg = place.querySelector("svg");
    svg.style.minWidth = `${Math.round(0.82 * svg.getAttribute("width"))}px`;
  }

  function pick() {
    for (const [figure, view] of views) tell(view, specs[figure.dataset.chart]);
    for (const button of document.querySelectorAll(".pick button[data-language]")) {
      button.setAttribute("aria-pressed", picked.includes(button.dataset.language));
    }
    document.getElementById("all").hidden = !picked.length;
    // A figure without a panel of the chosen sparsity keeps what it has.
    for (const section of document.querySelectorAll("section")) {
      const panels = [...section.querySelectorAll("figure[data-sparsity]")];
      const some = panels.some((panel) => panel.dataset.sparsity === level.sparsity);
      for (const panel of panels) panel.hidden = some && panel.dataset.sparsity !== level.sparsity;
    }
  }

  document.querySelector(".pick").addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    const { language } = button.dataset;
    if (button.id === "all") picked = [];
    else picked = picked.includes(language) ? picked.filter((one) => one !== language) : [...picked, language];
    pick();
  });
  document.getElementById("sparsity")?.addEventListener("change", ({ target }) => {
    level = { sparsity: target.value, series: target.selectedOptions[0].dataset.series };
    pick();
  });

  // Paper is always light. Vega draws data that it has without waiting for anything, and so before the page is printed.
  const drawAll = (theme) => Promise.all(figures.map((figure) => draw(figure, theme)));
  prefersDark.addEventListener("change", () => drawAll(screenTheme()));
  addEventListener("beforeprint", () => {
    if (prefersDark.matches || views.size < figures.length) drawAll("light");
  });
  addEventListener("afterprint", () => {
    if (prefersDark.matches) drawAll("dark");
  });

  // The tables are open for readers without scripts.
  for (const tables of document.querySelectorAll("details.tables")) tables.open = false;
  document.querySelector(".pick").hidden = false;
  // A chart at a time, so that the page answers from the first on.
  (async () => {
    for (const figure of figures) {
      if (!views.has(figure)) await draw(figure, screenTheme());
      await new Promise((resume) => setTimeout(resume));
    }
    document.documentElement.dataset.drawn = "all";
  })();
})();
