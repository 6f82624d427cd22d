// Entropy above, varentropy below, and between them what was done, a row a strategy, so that colour is not needed.

const STRIPS = { entropy: { top: 4, height: 84 }, ribbon: { top: 94, height: 50 }, varentropy: { top: 150, height: 60 } };
const MARGIN = { left: 30, right: 92 };
const TIMELINE_HEIGHT = 216;
const LABEL = 10; // between the names of two thresholds

class Timeline {
  constructor(viewer) {
    this.viewer = viewer;
    this.width = 600;
    this.frame = svg("g", { class: "frame" });
    this.plots = {};
    for (const name of Object.keys(STRIPS)) {
      this.plots[name] = svg("svg", { preserveAspectRatio: "none", class: `strip ${name}` });
    }
    this.cursors = ["hover", "chosen"].map((name) => svg("line", { class: `cursor ${name}`, y1: 0, y2: TIMELINE_HEIGHT, visibility: "hidden" }));
    this.svg = svg("svg", { class: "timeline", role: "img", height: TIMELINE_HEIGHT }, this.frame, Object.values(this.plots), this.cursors);
    this.svg.addEventListener("pointermove", (event) => viewer.hover(this.reply, this.placeAt(event), null));
    this.svg.addEventListener("pointerleave", () => viewer.hover(this.reply, null, null));
    this.svg.addEventListener("click", (event) => viewer.select(this.reply, this.placeAt(event)));
    this.element = el("div", { class: "timeline-holder" }, this.svg);
    new ResizeObserver(() => this.resize()).observe(this.element);
    this.show(null);
  }

  show(reply) {
    this.reply = reply;
    this.drawn = 0;
    this.points = { entropy: [], varentropy: [] };
    this.greatest = { entropy: 4, varentropy: 12 };
    this.run = null;
    this.lines = {};
    clear(this.plots.ribbon);
    for (const name of ["entropy", "varentropy"]) {
      this.lines[name] = svg("path", { class: "curve", fill: "none", "vector-effect": "non-scaling-stroke" });
      clear(this.plots[name], this.lines[name]);
    }
    this.resize();
    this.update();
  }

  update() {
    const tokens = this.reply ? this.reply.tokens : [];
    for (; this.drawn < tokens.length; this.drawn += 1) this.add(tokens[this.drawn]);
    const count = Math.max(tokens.length, 1);
    for (const name of ["entropy", "varentropy"]) {
      const most = this.greatest[name];
      this.plots[name].setAttribute("viewBox", `0 ${-most} ${count} ${most}`);
      this.lines[name].setAttribute("d", this.points[name].join(""));
    }
    this.plots.ribbon.setAttribute("viewBox", `0 0 ${count} ${STRATEGIES.length}`);
    const said = tokens.length ? `Entropy and varentropy of ${tokens.length} tokens` : "No tokens yet";
    this.svg.setAttribute("aria-label", said);
    this.drawFrame();
    this.mark();
  }

  add(token) {
    for (const name of ["entropy", "varentropy"]) {
      const value = token[name];
      if (!Number.isFinite(value)) continue;
      const last = this.points[name].length ? "L" : "M";
      this.points[name].push(`${last}${token.place + 0.5} ${-value.toFixed(3)}`);
      this.greatest[name] = Math.max(this.greatest[name], value);
    }
    const { strategy } = this.viewer.verdict(this.reply, token);
    if (this.run && this.run.strategy === strategy && this.run.end === token.place) {
      this.run.end += 1;
      this.run.rect.setAttribute("width", this.run.end - this.run.start);
      return;
    }
    const row = STRATEGIES.indexOf(strategy);
    this.run = { strategy, start: token.place, end: token.place + 1, rect: null };
    this.run.rect = svg("rect", { class: `fill-${strategy}`, x: token.place, y: row < 0 ? 0 : row, width: 1, height: row < 0 ? 0 : 1 });
    this.plots.ribbon.append(this.run.rect);
  }

  /** Draw the ribbon again: the thresholds were moved. */
  recolour() {
    clear(this.plots.ribbon);
    this.run = null;
    this.drawn = 0;
    this.points = { entropy: [], varentropy: [] };
    this.update();
  }

  resize() {
    this.width = Math.max(this.element.clientWidth || this.width, 200);
    this.svg.setAttribute("width", this.width);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${TIMELINE_HEIGHT}`);
    for (const [name, { top, height }] of Object.entries(STRIPS)) {
      const plot = this.plots[name];
      plot.setAttribute("x", MARGIN.left);
      plot.setAttribute("y", top);
      plot.setAttribute("width", this.inner);
      plot.setAttribute("height", height);
    }
    this.framed = null;
    this.drawFrame();
    this.mark();
  }

  get inner() {
    return this.width - MARGIN.left - MARGIN.right;
  }

  /** Axes, thresholds and the ribbon's rows; drawn again only where a scale changed. */
  drawFrame() {
    const thresholds = this.reply ? this.viewer.thresholds(this.reply) : null;
    const key = JSON.stringify([this.width, this.greatest, thresholds]);
    if (key === this.framed) return;
    this.framed = key;
    const parts = [this.strip("entropy", "H", thresholds), this.strip("varentropy", "V", thresholds), this.rows()];
    clear(this.frame, parts.flat());
  }

  strip(name, letter, thresholds) {
    const { top, height } = STRIPS[name];
    const most = this.greatest[name];
    const y = (value) => top + height * (1 - value / most);
    const right = MARGIN.left + this.inner;
    const parts = [
      svg("rect", { class: "ground", x: MARGIN.left, y: top, width: this.inner, height }),
      svg("text", { class: "axis", x: 2, y: top + 10 }, letter),
      svg("text", { class: "tick", x: MARGIN.left - 4, y: top + 9, "text-anchor": "end" }, most.toFixed(0)),
      svg("text", { class: "tick", x: MARGIN.left - 4, y: top + height, "text-anchor": "end" }, "0"),
    ];
    let last = Infinity;
    for (const border of thresholds ? borders(name, this.viewer.table, thresholds) : []) {
      if (border.value > most) continue;
      const at = y(border.value);
      parts.push(svg("line", { class: `limit line-${border.strategy}`, x1: MARGIN.left, x2: right, y1: at, y2: at }));
      last = Math.min(at, last - LABEL);
      if (last < top - LABEL / 2) continue; // there is no room for its name
      parts.push(svg("text", { class: "tick", x: right + 3, y: last + 3 }, `${border.is === "below" ? "<" : ">"} ${border.value.toFixed(1)} ${MEANINGS[border.strategy]}`));
    }
    return parts;
  }

  rows() {
    const { top, height } = STRIPS.ribbon;
    const each = height / STRATEGIES.length;
    return STRATEGIES.flatMap((name, row) => [
      svg("rect", { class: row % 2 ? "ground odd" : "ground", x: MARGIN.left, y: top + row * each, width: this.inner, height: each }),
      svg("text", { class: "tick", x: MARGIN.left + this.inner + 3, y: top + row * each + 8 }, MEANINGS[name]),
    ]);
  }

  placeAt(event) {
    const count = this.reply ? this.reply.tokens.length : 0;
    const box = this.svg.getBoundingClientRect();
    const share = (((event.clientX - box.left) * this.width) / box.width - MARGIN.left) / this.inner;
    return count && share >= 0 && share < 1 ? Math.floor(share * count) : null;
  }

  mark() {
    const count = this.reply ? this.reply.tokens.length : 0;
    [this.viewer.hovered, this.viewer.selected].forEach((place, at) => {
      const shown = place !== null && this.viewer.reply === this.reply && place < count;
      const x = MARGIN.left + ((place + 0.5) / Math.max(count, 1)) * this.inner;
      this.cursors[at].setAttribute("visibility", shown ? "visible" : "hidden");
      this.cursors[at].setAttribute("x1", x);
      this.cursors[at].setAttribute("x2", x);
    });
  }
}
