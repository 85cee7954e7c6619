// Shared by the pages of softstair view: what they start from, and how they ask for pictures.
const content = JSON.parse($("data").textContent);
const size = bytes => bytes < 1e6 ? `${fixed(bytes / 1e3, bytes < 1e4 ? 2 : 1)} kB` : `${fixed(bytes / 1e6, 2)} MB`;

// A served page asks for pictures, one request at a time.
function served() {
  const headers = {"Softstair-Page": Array.from(crypto.getRandomValues(new Uint32Array(2)), String).join("-")};
  async function ask(path, options = {}) {
    let answer;
    try {
      answer = await fetch(path, {headers, ...options});
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("Softstair does not answer; is it still running in its terminal?");
    }
    if (answer.ok) return answer;
    if (answer.status === 409) throw new DOMException("Superseded by this page itself.", "AbortError");
    const {error} = await answer.json().catch(() => ({}));
    throw new Error(error || `Softstair answered ${answer.status}.`);
  }
  return {
    entries: content.pictures,
    open: async entry => (await ask(`pictures/${entry.number}`)).json(),
    async upload(file) {
      if (file.size > content.max_bytes) {
        throw new Error(`${file.name} has more than the ${whole(content.max_bytes / 1e6)} MB that are taken.`);
      }
      return (await ask(`pictures?name=${encodeURIComponent(file.name)}`, {method: "POST", body: file})).json();
    },
    async view(entry, codec, position, signal) {
      const answer = await ask(`pictures/${entry.number}/${codec}?position=${position}`, {signal});
      const figures = JSON.parse(answer.headers.get("Softstair-Figures"));
      return {figures, url: URL.createObjectURL(await answer.blob())};
    },
  };
}
