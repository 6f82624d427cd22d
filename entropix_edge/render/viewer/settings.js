// What is asked for beside the question.

const FIELDS = [
  { name: "system", label: "System message", kind: "textarea", rows: 2 },
  { name: "max_tokens", label: "Max tokens", kind: "number", min: 1, step: 1, whole: true },
  { name: "temperature", label: "Temperature", kind: "number", min: 0, step: 0.05 },
  { name: "top_k", label: "top_k", kind: "number", min: 0, step: 1, whole: true },
  { name: "top_p", label: "top_p", kind: "number", min: 0, max: 1, step: 0.01 },
  { name: "min_p", label: "min_p", kind: "number", min: 0, max: 1, step: 0.01 },
  { name: "seed", label: "Seed", kind: "number", min: 0, step: 1, whole: true, hint: "a new one each time" },
  { name: "stop", label: "Stop texts", kind: "textarea", rows: 1, hint: "one a line; \\n is a line break", lines: true },
  { name: "preset", label: "Preset", kind: "select" },
  { name: "sampler", label: "Sampler", kind: "select" },
  { name: "deliberate", label: "Candidates", kind: "number", min: 2, step: 1, whole: true, hint: "1" },
  { name: "answer", label: "They vote by", kind: "select" },
];
const KEPT = "entropix-edge settings"; // until the tab is closed
const FILTERS = ["temperature", "top_k", "top_p", "min_p"];

class Settings {
  constructor(props) {
    this.props = props;
    this.inputs = {};
    const strategy = props.strategy;
    this.choices = {
      preset: ["", ...Object.keys(strategy.presets)],
      sampler: ["", ...strategy.samplers],
      answer: ["", ...strategy.answers],
    };
    this.element = el("div", { class: "settings", onchange: () => this.keep() }, FIELDS.map((field) => this.row(field)));
    for (const [name, value] of Object.entries(parsed(sessionStorage.getItem(KEPT)) ?? {})) if (name in this.inputs) this.set(name, value);
  }

  /** Keep what is set, so that the page can be loaded anew. */
  keep() {
    const set = Object.entries(this.inputs).map(([name, input]) => [name, input.value]);
    sessionStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(set.filter(([, value]) => value !== ""))));
  }

  row(field) {
    const id = `setting-${field.name}`;
    const usual = this.usual(field);
    let input;
    if (field.kind === "select") {
      input = el("select", { id }, this.choices[field.name].map((name) => el("option", { value: name }, name || usual)));
    } else if (field.kind === "textarea") {
      input = el("textarea", { id, rows: field.rows, placeholder: usual });
    } else {
      input = el("input", { id, type: field.kind, min: field.min, max: field.max, step: field.step, placeholder: usual });
    }
    this.inputs[field.name] = input;
    return el("div", { class: "setting" }, el("label", { for: id }, field.label), input);
  }

  /** What holds where nothing is set. */
  usual(field) {
    const defaults = this.props.default_generation_settings;
    if (field.hint) return field.hint;
    if (FILTERS.includes(field.name)) return String(defaults.preset.sampler[field.name]);
    if (field.name === "max_tokens") return String(defaults.n_predict);
    if (field.name === "preset") return `${defaults.preset.name} (the server's)`;
    if (field.name === "sampler") return `${defaults.sampler} (the server's)`;
    return field.name === "answer" ? "what most of them have" : "";
  }

  set(name, value) {
    this.inputs[name].value = value;
    this.keep();
  }

  /** What is set; throws an Error for a value that cannot be. */
  read() {
    const found = {};
    for (const field of FIELDS) {
      const input = this.inputs[field.name];
      if (input.validity && !input.validity.valid) throw new Error(`${field.label} is not right: ${input.validationMessage}`);
      const value = input.value;
      if (value.trim() === "") continue;
      found[field.name] = field.kind === "number" ? Number(value) : field.lines ? linesOf(value) : value;
    }
    return found;
  }

  /** The preset that a reply is generated with. */
  preset(set, options) {
    const base = set.preset ? this.props.strategy.presets[set.preset] : this.props.default_generation_settings.preset;
    const filters = FILTERS.filter((name) => name in set).map((name) => [`sampler.${name}`, set[name]]);
    return changedPreset(base, { ...Object.fromEntries(filters), ...options });
  }
}

/** The lines of a field, in which `\n`, `\t` and `\\` are written with a backslash. */
function linesOf(text) {
  const letters = { n: "\n", t: "\t", "\\": "\\" };
  const lines = text.split("\n").filter((line) => line !== "");
  return lines.map((line) => line.replace(/\\([nt\\])/g, (_, letter) => letters[letter]));
}

/** The fields of a request. */
function requestOf(set, options, begin) {
  const body = { stream_options: { include_usage: true } };
  for (const name of [...FILTERS, "max_tokens", "seed", "stop"]) if (name in set) body[name] = set[name];
  const extension = { tokens: true, branches: true, alternatives: 10 };
  if (Object.keys(options).length) extension.options = options;
  for (const name of ["preset", "sampler"]) if (name in set) extension[name] = set[name];
  if (begin.length) extension.begin_tokens = begin;
  else if (set.deliberate > 1) Object.assign(extension, { deliberate: set.deliberate }, set.answer ? { answer: set.answer } : {});
  return { ...body, entropix: extension };
}
