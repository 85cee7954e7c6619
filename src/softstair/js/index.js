// softstair: .stair pictures in browsers and Node. See index.d.ts for what each call takes.
import { StairError } from "./core.js";
import { toPng } from "./png.js";
import { WASM, absolute, spawn } from "#platform";

export { StairError, toPng };

const MAX_PIXELS = 16384 * 16384;
const MAX_MEMORY = 1e9;
const KEPT_MEMORY = 256 << 20; // of an idle worker; more is given back by ending it

const engines = new Map();

/** A worker, started when something is asked and again after it was ended. */
class Engine {
  #wasm;
  #worker = null;
  #pending = new Map(); // by id: what was asked, and who waits
  #bundles = new Map(); // in this worker, by source: its fingerprint, promised
  #last = 0;

  constructor(wasm) {
    this.#wasm = wasm;
  }

  ask(question, { signal, onProgress } = {}) {
    signal?.throwIfAborted();
    if (!this.#worker) this.#start();
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#pending.delete(id);
        reject(signal.reason);
        this.#restart(); // the worker is in the middle of it and hears nothing
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      const settle = (action) => (value) => {
        signal?.removeEventListener("abort", onAbort);
        action(value);
      };
      this.#pending.set(id, { question, onProgress, resolve: settle(resolve), reject: settle(reject) });
      this.#worker.post({ id, question });
    });
  }

  /** The fingerprint of a bundle, which the worker holds afterwards. */
  bundle(source, signal) {
    if (!this.#worker) this.#start();
    if (!this.#bundles.has(source)) {
      const fingerprint = this.ask({ ask: "bundle", source }, { signal });
      this.#bundles.set(source, fingerprint);
      fingerprint.catch(() => this.#bundles.delete(source));
    }
    return this.#bundles.get(source);
  }

  end() {
    this.#worker?.end();
    this.#worker = null;
    this.#bundles.clear();
    for (const { reject } of this.#pending.values()) reject(new StairError("stopped", "The decoder was closed."));
    this.#pending.clear();
  }

  #start() {
    this.#worker = spawn(
      (message) => this.#receive(message),
      (why) => this.#fail(why),
    );
    this.#worker.post({ id: 0, question: { ask: "open", wasm: this.#wasm } });
  }

  #restart() {
    this.#worker?.end();
    this.#worker = null;
    const bundles = [...this.#bundles.keys()];
    this.#bundles.clear();
    if (this.#pending.size === 0) return;
    this.#start();
    for (const source of bundles) this.bundle(source).catch(() => {});
    for (const [id, { question }] of this.#pending) this.#worker.post({ id, question });
  }

  #receive({ id, done, result, error }) {
    if (id === 0) {
      if (error) this.#fail(error.message, error.code);
      return;
    }
    const waiting = this.#pending.get(id);
    if (done !== undefined) {
      waiting?.onProgress?.(done);
      return;
    }
    this.#pending.delete(id);
    if (this.#pending.size === 0) {
      if (result?.memory > KEPT_MEMORY) this.end();
      else this.#worker?.idle?.();
    }
    if (error) waiting?.reject(new StairError(error.code, error.message));
    else waiting?.resolve(result.value);
  }

  #fail(why, code = "internal") {
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    this.end();
    const text = code === "internal" ? `The decoder cannot be started: ${why}` : why;
    for (const { reject } of waiting) reject(new StairError(code, text));
  }
}

function engineOf({ wasmUrl } = {}) {
  const given = typeof wasmUrl === "object" && !(wasmUrl instanceof URL) ? wasmUrl : wasmUrl && { simd: wasmUrl, relaxed: wasmUrl };
  const wasm = given ? { simd: absolute(String(given.simd ?? given.relaxed)), relaxed: absolute(String(given.relaxed ?? given.simd)) } : WASM;
  const key = `${wasm.simd} ${wasm.relaxed}`;
  if (!engines.has(key)) engines.set(key, new Engine(wasm));
  return engines.get(key);
}

async function bytesOf(input) {
  if (input instanceof Uint8Array) return input;
  if (input instanceof ArrayBuffer) return new Uint8Array(input);
  if (ArrayBuffer.isView(input)) return new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
  if (typeof input?.arrayBuffer === "function") return new Uint8Array(await input.arrayBuffer()); // Blob, File, Response
  throw new StairError("usage", "A file is bytes, a Blob or a Response.");
}

/** What `bundle` and `bundleUrl` offer: {fingerprint, source} each, the fingerprint if it is said. */
function offered({ bundle, bundleUrl }) {
  const one = (item) => {
    if (typeof item === "string" || item instanceof URL) return { source: absolute(String(item)) };
    if (item instanceof ArrayBuffer || ArrayBuffer.isView(item)) return { source: item };
    return { fingerprint: item.fingerprint, source: absolute(String(item.url)) };
  };
  return [bundle ?? [], bundleUrl ?? []].flat().map(one);
}

const asBytes = new WeakMap(); // of bundles given as something else than Uint8Array, so that each is sent once

async function hold(engine, options, fingerprint, signal) {
  if (fingerprint === null) return;
  const offers = offered(options);
  const named = offers.filter((offer) => offer.fingerprint === fingerprint);
  for (const { source } of named.length > 0 ? named : offers.filter((offer) => !offer.fingerprint)) {
    let key = source;
    if (typeof source !== "string" && !(source instanceof Uint8Array)) {
      if (!asBytes.has(source)) asBytes.set(source, await bytesOf(source));
      key = asBytes.get(source);
    }
    if ((await engine.bundle(key, signal)) === fingerprint) return;
  }
  throw new StairError("wrong-bundle", `The picture needs bundle ${fingerprint}; pass it as \`bundle\` or say where it is with \`bundleUrl\`.`);
}

function divisorOf(scale = 1) {
  const divisor = 1 / scale;
  if (![1, 2, 4, 8, 16, 32, 64].includes(divisor)) throw new StairError("usage", "Pictures can be scaled by one over 1, 2, 4, 8, 16, 32 or 64.");
  return divisor;
}

async function ask(kind, input, options) {
  const { region, scale, signal, maxPixels = MAX_PIXELS, maxMemory = MAX_MEMORY, allowPartial = false, onProgress } = options;
  signal?.throwIfAborted();
  const divisor = divisorOf(scale);
  const bytes = await bytesOf(input);
  const engine = engineOf(options);
  const { fingerprint } = await engine.ask({ ask: "info", bytes }, { signal });
  await hold(engine, options, fingerprint, signal);
  const question = { ask: kind, bytes, fingerprint, options: { region, divisor, maxPixels, maxMemory, allowPartial } };
  return engine.ask(question, { signal, onProgress });
}

/** Pixels of a file. */
export async function decode(input, options = {}) {
  return ask("decode", input, options);
}

/** The same as a PNG, with the file's metadata; made in the worker. */
export async function decodeToPng(input, options = {}) {
  return (await ask("png", input, options)).png;
}

/** SHA-256 over all symbols, hexadecimal: the same on every machine, for tests of ports. */
export async function symbolHash(input, options = {}) {
  return ask("symbols", input, options);
}

/** What a file says of itself. */
export async function info(input, options = {}) {
  return engineOf(options).ask({ ask: "info", bytes: await bytesOf(input) }, options);
}

/** A file's profile, EXIF, XMP and IPTC, verbatim; null where there is none. */
export async function metadata(input, options = {}) {
  return engineOf(options).ask({ ask: "metadata", bytes: await bytesOf(input) }, options);
}

/** Ends all workers and gives their memory back; the next call starts one again. */
export function close() {
  for (const engine of engines.values()) engine.end();
  engines.clear();
}
