// The server's public interface, and nothing else.

const KEY = "entropix-edge key"; // kept until the tab is closed

class ApiFault extends Error {
  constructor(status, message, code = null) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const api = {
  get key() {
    return sessionStorage.getItem(KEY) || "";
  },

  set key(value) {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  },

  async call(path, body, signal) {
    const headers = this.key ? { authorization: `Bearer ${this.key}` } : {};
    if (body) headers["content-type"] = "application/json";
    const options = { method: body ? "POST" : "GET", headers, signal, body: body ? JSON.stringify(body) : undefined };
    let answer;
    try {
      answer = await fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiFault(0, "the server does not answer");
    }
    if (answer.ok) return answer;
    const told = await answer.json().catch(() => null);
    throw new ApiFault(answer.status, told && told.error ? told.error.message : `the server answered with ${answer.status}`, told?.error?.code);
  },

  async json(path, body) {
    return (await this.call(path, body)).json();
  },

  /** The events of a stream, as they come; an error in it is thrown. */
  async *stream(path, body, signal) {
    const answer = await this.call(path, { ...body, stream: true }, signal);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let held = "";
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw error.name === "AbortError" ? error : new ApiFault(0, "the server has gone away");
      });
      if (done) return;
      held += value;
      const lines = held.split("\n");
      held = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data: ")) continue;
        const data = line.slice(6);
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new ApiFault(500, event.error.message);
        yield event;
      }
    }
  },
};
