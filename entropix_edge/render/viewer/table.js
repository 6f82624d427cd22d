// The strategy table: its conditions come with the data (`/props`, or the file), so that they stand in one place only.

const STRATEGIES = ["argmax", "adaptive", "branch", "pause", "resample"]; // from sure to scattered
const MEANINGS = { argmax: "sure", adaptive: "in between", branch: "torn", pause: "lost", resample: "scattered" };

/** The strategy for a distribution. As in the Python table, every comparison is strict and the first rule that holds wins. */
function classify(entropy, varentropy, table, thresholds) {
  const metrics = { entropy, varentropy };
  const rule = table.rules.find(({ conditions }) =>
    conditions.every(({ metric, is, threshold }) => holds(metrics[metric], is, thresholds[threshold])),
  );
  return rule ? rule.strategy : table.otherwise;
}

function holds(value, is, limit) {
  return is === "below" ? value < limit : value > limit;
}

/** A preset's thresholds by name, such as `argmax.entropy_below`; null where it lacks one. */
function thresholdsOf(preset, table) {
  const found = {};
  for (const { conditions } of table.rules) {
    for (const { threshold } of conditions) {
      const [section, name] = threshold.split(".");
      const value = preset && preset[section] ? preset[section][name] : undefined;
      if (typeof value !== "number" || !Number.isFinite(value)) return null;
      found[threshold] = value;
    }
  }
  return found;
}

/** A preset with single values replaced: `section.key` → value. */
function changedPreset(preset, changes) {
  const copy = structuredClone(preset);
  for (const [key, value] of Object.entries(changes)) {
    const [section, name] = key.split(".");
    if (copy[section]) copy[section][name] = value;
  }
  return copy;
}

/** The values of one metric at which the table's verdict may change, in order. */
function borders(metric, table, thresholds) {
  const conditions = table.rules.flatMap((rule) => rule.conditions.map((each) => ({ ...each, strategy: rule.strategy })));
  return conditions
    .filter((each) => each.metric === metric)
    .map((each) => ({ strategy: each.strategy, is: each.is, value: thresholds[each.threshold] }))
    .sort((one, other) => one.value - other.value);
}
