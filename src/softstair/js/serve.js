// Answers what index.js asks, in a worker or in the same thread. Questions are answered one by one.
import { Core, StairError, chooseBuild } from "./core.js";
import { toPng } from "./png.js";

/** Bytes of an address. */
export async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} cannot be fetched: ${response.status}.`);
  return new Uint8Array(await response.arrayBuffer());
}

/**
 * @param read bytes of an address: (url) => Promise<Uint8Array>
 * @param report what is done of the question in hand: (done) => void
 */
export function makeServer(read, report) {
  let core = null;
  let queue = Promise.resolve();

  const answers = {
    /** Once: where the decoder is, or its bytes. */
    async open({ wasm }) {
      const source = wasm[chooseBuild()];
      const bytes = typeof source === "string" ? await read(source) : source;
      core = new Core(await WebAssembly.compile(bytes));
    },
    async bundle({ source }) {
      const fingerprint = core.addBundle(typeof source === "string" ? await read(source) : source);
      return fingerprint;
    },
    info: ({ bytes }) => core.info(bytes),
    metadata: ({ bytes }) => core.metadata(bytes),
    symbols: ({ bytes, fingerprint }) => core.symbolHash(bytes, fingerprint),
    decode({ bytes, fingerprint, options }) {
      return core.decode(bytes, fingerprint, { ...options, progress: (done) => void report(done) });
    },
    async png({ bytes, fingerprint, options }) {
      const picture = answers.decode({ bytes, fingerprint, options });
      let metadata = {};
      try {
        metadata = core.metadata(bytes);
      } catch (error) {
        if (picture.damage === null) throw error;
      }
      return { png: await toPng(picture, metadata), width: picture.width, height: picture.height, damage: picture.damage };
    },
  };

  return function answer(question) {
    const result = queue.then(async () => {
      const value = await answers[question.ask](question);
      return { value, memory: core.memory };
    });
    queue = result.catch(() => {});
    return result;
  };
}

/**
 * What a worker does with a message.
 *
 * @param read bytes of an address
 * @param post sends a message, and gives away the buffers of a list
 */
export function listener(read, post) {
  let id = 0;
  const answer = makeServer(read, (done) => post({ id, done }));
  return async (message) => {
    try {
      id = message.id;
      const result = await answer(message.question);
      post({ id: message.id, result }, transferable(result.value));
    } catch (error) {
      post({ id: message.id, error: plain(error) });
    }
  };
}

/** Errors cross to another thread as plain values. */
export function plain(error) {
  if (error instanceof StairError) return { code: error.code, message: error.message };
  return { code: "internal", message: String(error?.message ?? error) };
}

/** The buffers in a result that can be given away instead of copied. */
function transferable(value) {
  const buffer = value?.data?.buffer ?? value?.png?.buffer;
  return buffer ? [buffer] : [];
}
