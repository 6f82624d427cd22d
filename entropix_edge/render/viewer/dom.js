"use strict";
// Elements and numbers. What a model or a file says goes through text nodes and attributes only, never through markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element: `on…` properties are listeners, the others attributes; children are elements or texts. */
function el(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An SVG element. */
function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function clear(element, ...children) {
  element.replaceChildren(...children.flat().filter(Boolean));
  return element;
}

/** A function that is called at most once a frame, or at most once in so many milliseconds. */
function throttled(call, least = 0) {
  let waiting = false;
  let last = -Infinity;
  return () => {
    if (waiting) return;
    waiting = true;
    const run = () => {
      waiting = false;
      last = performance.now();
      call();
    };
    const wait = last + least - performance.now();
    if (wait > 0) setTimeout(() => requestAnimationFrame(run), wait);
    else requestAnimationFrame(run);
  };
}

/** A number of a trace, in which infinities are texts; null where it is none. */
function number(value) {
  if (typeof value === "number") return value;
  return value === "-inf" ? -Infinity : value === "inf" ? Infinity : null;
}

const fixed = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits) : "?");

/** A probability from its natural logarithm, in words. */
function percent(logprob) {
  if (logprob === null || logprob === undefined || Number.isNaN(logprob)) return "?";
  const share = 100 * Math.exp(logprob);
  if (share < 0.1) return "under 0.1 %";
  return share < 9.95 ? `${share.toFixed(1)} %` : `${share.toFixed(0)} %`;
}

/** A piece of text in a line, its control characters made visible. */
function visible(text) {
  return text.replace(/[\u0000-\u001f\u007f]/g, (letter) => {
    if (letter === "\n") return "⏎";
    const code = letter.charCodeAt(0);
    return String.fromCharCode(code === 0x7f ? 0x2421 : 0x2400 + code);
  });
}

/** A message as a sentence. */
const sentence = (message) => `${message[0].toUpperCase()}${message.slice(1)}${/[.!?]$/.test(message) ? "" : "."}`;

const quoted = (text) => (text === "" ? "nothing" : `“${visible(text)}”`);
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function listed(items) {
  return items.length > 1 ? `${items.slice(0, -1).join(", ")} and ${items.at(-1)}` : items.join("");
}

const icon = (text, label) => el("span", { role: "img", "aria-label": label }, text);
