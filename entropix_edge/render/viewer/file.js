// The same view of traces in a file: nothing is asked of anyone.

class FilePage {
  constructor(root, data) {
    this.viewer = new Viewer(data.table);
    this.replies = data.traces.map(({ name, header, events, cut }) => {
      const reply = new Reply(header);
      events.forEach((record) => reply.push(record));
      return { name, reply, cut };
    });
    this.text = el("div", { class: "turns" });
    const choose = (event) => this.show(this.replies[Number(event.target.value)]);
    const options = this.replies.map(({ name }, at) => el("option", { value: at }, visible(name)));
    const picker = this.replies.length > 1 ? el("label", {}, "Trace ", el("select", { onchange: choose }, options)) : null;
    clear(
      root,
      el("header", {}, el("h1", {}, "entropix-edge"), picker, el("p", { class: "status" }, visible(this.replies.map(({ name }) => name).join(", ")))),
      this.viewer.said,
      el("main", {}, el("div", { class: "talk" }, this.viewer.legend(), this.text, this.viewer.timelinePanel()), el("aside", { "aria-label": "What the model knew" }, this.viewer.panels())),
      this.viewer.tip,
    );
    this.show(this.replies[0]);
  }

  show({ reply, cut }) {
    const { messages, prompt } = reply.header;
    const asked = Array.isArray(messages) && messages.length ? messages.at(-1).content : prompt;
    this.viewer.keepPanes([reply]);
    clear(
      this.text,
      typeof asked === "string" ? el("div", { class: "question", role: "group", "aria-label": "Question" }, asked) : null,
      candidatesOf(this.viewer, reply),
      this.viewer.pane(reply).element,
      cut ? el("p", { class: "notes" }, "The trace was cut short.") : null,
      el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => saveTrace(reply) }, "Export trace")),
    );
    this.viewer.show(reply);
  }
}
