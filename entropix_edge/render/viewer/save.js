// What can be saved: a trace, and pictures of the timeline and the plane.

const DRAWN = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "opacity", "font-size", "font-family", "font-weight", "visibility"];

function download(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** A picture that stands alone: the styles that it has here become attributes. */
function standalone(drawing) {
  const copy = drawing.cloneNode(true);
  const originals = [drawing, ...drawing.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, at) => {
    const style = getComputedStyle(originals[at]);
    for (const name of DRAWN) element.setAttribute(name, style.getPropertyValue(name));
    element.removeAttribute("class");
  });
  const { width, height } = drawing.getBoundingClientRect();
  copy.setAttribute("xmlns", SVG);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  const ground = svg("rect", { width: "100%", height: "100%", fill: getComputedStyle(document.body).backgroundColor });
  copy.prepend(ground);
  return { text: new XMLSerializer().serializeToString(copy), width, height };
}

function saveSvg(drawing, name) {
  download(`${name}.svg`, standalone(drawing).text, "image/svg+xml");
}

async function savePng(drawing, name) {
  const { text, width, height } = standalone(drawing);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = el("canvas", { width: Math.ceil(2 * width), height: Math.ceil(2 * height) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  download(`${name}.png`, blob, "image/png");
}

function saveButtons(drawing, name) {
  return el(
    "p",
    { class: "buttons" },
    el("button", { type: "button", "aria-label": `Save the ${name} as SVG`, onclick: () => saveSvg(drawing, name) }, "SVG"),
    el("button", { type: "button", "aria-label": `Save the ${name} as PNG`, onclick: () => savePng(drawing, name) }, "PNG"),
  );
}

function saveTrace(reply) {
  download("trace.jsonl", traceOf(reply), "application/jsonl");
}
