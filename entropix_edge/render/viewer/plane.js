// Entropy against varentropy, both on logarithmic axes, with the table's quadrants behind the tokens.

const PLANE = { width: 380, height: 300, left: 34, right: 8, top: 8, bottom: 30 };
const SPAN = { entropy: [0.01, 20], varentropy: [0.01, 100] };
const TICKS = [0.01, 0.1, 1, 10, 100];
const SHAPES = {
  argmax: "M-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0Z",
  adaptive: "M-2.5-2.5h5v5h-5Z",
  branch: "M0-3.5L3.3 2.5H-3.3Z",
  pause: "M-3.5-1.2h7v2.4h-7Z",
  resample: "M0-4L3 0L0 4L-3 0Z",
};

class Plane {
  constructor(viewer) {
    this.viewer = viewer;
    this.regions = svg("g", {});
    this.points = svg("g", {});
    this.marks = ["hover", "chosen"].map((name) => svg("circle", { class: `mark ${name}`, r: 6, visibility: "hidden" }));
    this.svg = svg("svg", { class: "plane", role: "img", viewBox: `0 0 ${PLANE.width} ${PLANE.height}` }, this.regions, this.axes(), this.points, this.marks);
    this.svg.addEventListener("mouseover", (event) => viewer.hover(this.reply, this.placeOf(event.target), null));
    this.svg.addEventListener("mouseleave", () => viewer.hover(this.reply, null, null));
    this.svg.addEventListener("click", (event) => {
      const place = this.placeOf(event.target);
      if (place !== null) viewer.select(this.reply, place);
    });
    this.element = el("div", { class: "plane-holder" }, this.svg);
    this.show(null);
  }

  show(reply) {
    this.reply = reply;
    this.drawn = 0;
    clear(this.points);
    this.drawRegions();
    this.update();
  }

  update() {
    const tokens = this.reply ? this.reply.tokens : [];
    const piece = document.createDocumentFragment();
    for (; this.drawn < tokens.length; this.drawn += 1) {
      const token = tokens[this.drawn];
      if (token.entropy === null) continue;
      const { strategy } = this.viewer.verdict(this.reply, token);
      const at = `translate(${this.x(token.entropy).toFixed(1)} ${this.y(token.varentropy).toFixed(1)})`;
      piece.append(svg("path", { class: `point fill-${strategy}`, d: SHAPES[strategy] ?? SHAPES.argmax, transform: at, "data-place": token.place }));
    }
    this.points.append(piece);
    this.svg.setAttribute("aria-label", `${tokens.length} tokens in the plane of entropy and varentropy`);
    this.mark();
  }

  recolour() {
    this.show(this.reply);
  }

  x(value) {
    return this.scale(value, SPAN.entropy, PLANE.left, PLANE.width - PLANE.right);
  }

  y(value) {
    return this.scale(value, SPAN.varentropy, PLANE.height - PLANE.bottom, PLANE.top);
  }

  scale(value, [low, high], from, to) {
    const share = Math.log(Math.min(Math.max(value, low), high) / low) / Math.log(high / low);
    return from + share * (to - from);
  }

  /** The quadrants: a rectangle for each cell that the thresholds cut the plane into, by what the table says of it. */
  drawRegions() {
    const { table } = this.viewer;
    const thresholds = this.reply ? this.viewer.thresholds(this.reply) : null;
    clear(this.regions);
    if (!thresholds) return;
    const edges = (metric) => {
      const [low, high] = SPAN[metric];
      const inside = borders(metric, table, thresholds).map((each) => each.value).filter((value) => value > low && value < high);
      return [low, ...new Set(inside), high];
    };
    const [columns, rows] = [edges("entropy"), edges("varentropy")];
    const largest = {};
    for (let column = 0; column + 1 < columns.length; column += 1) {
      for (let row = 0; row + 1 < rows.length; row += 1) {
        const middle = (list, at) => Math.sqrt(list[at] * list[at + 1]);
        const strategy = classify(middle(columns, column), middle(rows, row), table, thresholds);
        const box = { x: this.x(columns[column]), y: this.y(rows[row + 1]) };
        box.width = this.x(columns[column + 1]) - box.x;
        box.height = this.y(rows[row]) - box.y;
        this.regions.append(svg("rect", { class: `region fill-${strategy}`, ...box }));
        if (!largest[strategy] || box.width * box.height > largest[strategy].width * largest[strategy].height) largest[strategy] = box;
      }
    }
    for (const [strategy, box] of Object.entries(largest)) {
      this.regions.append(svg("text", { class: "region-name", x: box.x + box.width / 2, y: box.y + box.height / 2 + 4, "text-anchor": "middle" }, MEANINGS[strategy] ?? strategy));
    }
  }

  axes() {
    const bottom = PLANE.height - PLANE.bottom;
    const parts = [svg("rect", { class: "border", x: PLANE.left, y: PLANE.top, width: PLANE.width - PLANE.left - PLANE.right, height: bottom - PLANE.top })];
    for (const tick of TICKS) {
      if (tick <= SPAN.entropy[1]) parts.push(svg("text", { class: "tick", x: this.x(tick), y: bottom + 11, "text-anchor": "middle" }, String(tick)));
      parts.push(svg("text", { class: "tick", x: PLANE.left - 4, y: this.y(tick) + 3, "text-anchor": "end" }, String(tick)));
    }
    parts.push(svg("text", { class: "axis", x: PLANE.width - PLANE.right, y: PLANE.height - 4, "text-anchor": "end" }, "entropy H, bits"));
    parts.push(svg("text", { class: "axis", x: PLANE.left, y: PLANE.height - 4 }, "↑ varentropy V, bits²"));
    return parts;
  }

  placeOf(target) {
    return target.dataset && target.dataset.place !== undefined ? Number(target.dataset.place) : null;
  }

  mark() {
    [this.viewer.hovered, this.viewer.selected].forEach((place, at) => {
      const token = this.reply && this.viewer.reply === this.reply && place !== null ? this.reply.tokens[place] : null;
      const shown = token && token.entropy !== null;
      this.marks[at].setAttribute("visibility", shown ? "visible" : "hidden");
      if (!shown) return;
      this.marks[at].setAttribute("cx", this.x(token.entropy));
      this.marks[at].setAttribute("cy", this.y(token.varentropy));
    });
  }
}
