// A minute of surprise, and of the two numbers it is made from.

/* global uPlot */

const SPAN_S = 60;

export class Charts {
  constructor() {
    this.points = { at: [], surprise: [], threshold: [], error: [], unfamiliarity: [], alarmed: [] };
    this.main = document.getElementById("chart-surprise");
    this.parts = document.getElementById("chart-parts");
    this.due = false;
    this.build();
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", () => this.build());
    new ResizeObserver(() => this.resize()).observe(this.main);
  }

  clear() {
    for (const column of Object.values(this.points)) column.length = 0;
    this.draw();
  }

  add(more) {
    const p = this.points;
    const columns = [
      [p.at, more.at_s],
      [p.surprise, more.surprise],
      [p.threshold, more.threshold],
      [p.error, more.error],
      [p.unfamiliarity, more.unfamiliarity],
      [p.alarmed, more.alarmed],
    ];
    for (const [mine, fresh] of columns) for (const value of fresh) mine.push(value);
    const horizon = p.at[p.at.length - 1] - SPAN_S;
    const old = p.at.findIndex((at) => at >= horizon);
    if (old > 0) for (const column of Object.values(p)) column.splice(0, old);
    this.draw();
  }

  draw() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      const { at, surprise, threshold, error, unfamiliarity } = this.points;
      const newest = at[at.length - 1] || 0;
      const x = at.map((each) => each - newest);
      this.mainPlot.setData([x, surprise, threshold]);
      this.partsPlot.setData([x, error, unfamiliarity]);
      this.main.dataset.points = String(x.length);
    });
  }

  resize() {
    for (const [plot, box] of [[this.mainPlot, this.main], [this.partsPlot, this.parts]]) {
      const [width, height] = [box.clientWidth, box.clientHeight];
      if (width > 0 && height > 0 && (plot.width !== width || plot.height !== height)) plot.setSize({ width, height });
    }
  }

  build() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    for (const plot of [this.mainPlot, this.partsPlot]) if (plot) plot.destroy();
    const font = `11px ${style.getPropertyValue("--font").trim()}`;
    const axis = (extra) => ({
      stroke: colour("--muted"),
      font,
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
      ...extra,
    });
    const seconds = (_, ticks) => ticks.map((t) => (t === 0 ? "now" : `\u2212${Math.abs(t)} s`));
    const shared = {
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 0, 0, 0],
    };
    const time = { time: false, range: [-SPAN_S, 0] };
    const x = (labels) => axis({ values: labels ? seconds : () => [], size: labels ? 24 : 6, splits: () => [-60, -45, -30, -15, 0] });
    const line = (name, extra) => ({ stroke: colour(name), width: 1.75, points: { show: false }, spanGaps: false, ...extra });
    this.alarmFill = colour("--alarm-soft");
    this.alarmEdge = colour("--alarm");
    this.mainPlot = new uPlot(
      {
        ...shared,
        width: this.main.clientWidth || 400,
        height: this.main.clientHeight || 200,
        scales: { x: time, y: { range: (_, low, high) => [0, Math.max(1, (high || 0) * 1.12)] } },
        axes: [
          x(false),
          axis({ size: 38, values: (_, ticks) => ticks.map((t) => t.toFixed(1)) }),
          axis({ side: 1, size: 34, values: () => [], grid: { show: false } }),
        ],
        series: [{}, line("--surprise", { width: 2 }), line("--threshold", { dash: [6, 4] })],
        hooks: { drawAxes: [(plot) => this.shadeAlarms(plot)] },
      },
      [[], [], []],
      this.main,
    );
    const compact = (_, ticks) => ticks.map((t) => Number(t.toPrecision(2)).toString());
    const fromZero = (_, low, high) => [0, high > 0 ? high * 1.15 : 1];
    this.partsPlot = new uPlot(
      {
        ...shared,
        width: this.parts.clientWidth || 400,
        height: this.parts.clientHeight || 90,
        scales: { x: time, error: { range: fromZero }, unfamiliarity: { range: fromZero } },
        axes: [
          x(true),
          axis({ scale: "error", size: 38, stroke: colour("--error"), values: compact, space: 26 }),
          axis({ scale: "unfamiliarity", side: 1, size: 34, stroke: colour("--unfamiliar"), values: compact, grid: { show: false }, space: 26 }),
        ],
        series: [{}, line("--error", { scale: "error" }), line("--unfamiliar", { scale: "unfamiliarity", dash: [2, 3] })],
      },
      [[], [], []],
      this.parts,
    );
    this.draw();
  }

  shadeAlarms(plot) {
    const { at, alarmed } = this.points;
    const newest = at[at.length - 1] || 0;
    const { ctx, bbox } = plot;
    ctx.save();
    for (let i = 0; i < at.length; i += 1) {
      if (!alarmed[i]) continue;
      let end = i;
      while (end + 1 < at.length && alarmed[end + 1]) end += 1;
      const x0 = plot.valToPos(at[i] - newest, "x", true);
      const x1 = Math.max(x0 + 2, plot.valToPos(at[end] - newest, "x", true));
      ctx.fillStyle = this.alarmFill;
      ctx.fillRect(x0, bbox.top, x1 - x0, bbox.height);
      ctx.fillStyle = this.alarmEdge;
      ctx.fillRect(x0, bbox.top, x1 - x0, 3 * devicePixelRatio);
      i = end;
    }
    ctx.restore();
  }
}
