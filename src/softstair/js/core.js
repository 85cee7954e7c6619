// The decoder in WebAssembly: bytes in, bytes out, one picture at a time.

const CODES = [
  "ok",
  "internal",
  "usage",
  "not-a-stair-file",
  "unsupported",
  "truncated",
  "corrupt",
  "limit",
  "invalid-bundle",
  "wrong-bundle",
  "no-memory",
  "stopped",
];
const MODES = ["scalar", "rdoq", "tcq4", "tcq8", "tcq16", "tcq32", "tcq512"];
const KINDS = ["icc", "exif", "xmp", "iptc"];

/** What went wrong: `code` is one of a short list, `message` one sentence. */
export class StairError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "StairError";
    this.code = code;
  }
}

// The smallest modules that use a vector instruction, and a relaxed one.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
const RELAXED = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 8, 1, 96, 3, 123, 123, 123, 1, 123, 3, 2, 1, 0, 10, 13, 1, 11, 0, 32, 0, 32, 1, 32, 2, 253, 133, 2,
  11,
];

/** Which build this engine runs: "relaxed" or "simd". Throws StairError if it runs neither. */
export function chooseBuild() {
  if (typeof WebAssembly === "object") {
    if (WebAssembly.validate(Uint8Array.from(RELAXED))) return "relaxed";
    if (WebAssembly.validate(Uint8Array.from(SIMD))) return "simd";
  }
  throw new StairError("unsupported", "This browser has no WebAssembly with vector instructions; update it.");
}

/** Fingerprints as files name them: sixteen hexadecimal digits. */
function hexadecimal(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Core {
  #module;
  #instance = null;
  #bundles = new Map(); // by fingerprint: bytes, and the handle in the instance that is there
  #progress = null;

  constructor(module) {
    this.#module = module;
  }

  /** Bytes that the instance holds: WebAssembly's memory grows and never shrinks. */
  get memory() {
    return this.#instance?.memory.buffer.byteLength ?? 0;
  }

  /** Opens a bundle and keeps it; its fingerprint. */
  addBundle(bytes) {
    const handle = this.#run((wasm) => this.#with(wasm, bytes, (data) => wasm.stair_js_open(data, bytes.length)));
    const fingerprint = hexadecimal(this.#bytes(this.#instance.stair_bundle_fingerprint(handle), 8));
    this.#bundles.set(fingerprint, { bytes, handle });
    return fingerprint;
  }

  hasBundle(fingerprint) {
    return this.#bundles.has(fingerprint);
  }

  info(bytes) {
    return this.#run((wasm) =>
      this.#with(wasm, bytes, (data) =>
        this.#room(wasm, 44, (place) => {
          wasm.stair_info(data, bytes.length, place);
          const words = new Uint32Array(wasm.memory.buffer, place, 9);
          const [width, height, colour, alpha, version, mode, position, tiles, exactTiles] = words;
          const fingerprint = hexadecimal(this.#bytes(place + 36, 8));
          return {
            width,
            height,
            colour: colour === 1 ? "grey" : "rgb",
            alpha: alpha === 1,
            version,
            mode: MODES[mode],
            position,
            tiles,
            exactTiles,
            fingerprint: /^0*$/.test(fingerprint) ? null : fingerprint,
          };
        }),
      ),
    );
  }

  metadata(bytes) {
    return this.#run((wasm) =>
      this.#with(wasm, bytes, (data) =>
        this.#room(wasm, 8, (place) => {
          const found = {};
          KINDS.forEach((name, kind) => {
            wasm.stair_metadata(data, bytes.length, kind, place, place + 4);
            const [block, size] = new Uint32Array(wasm.memory.buffer, place, 2);
            found[name] = block === 0 ? null : this.#bytes(block, size).slice();
            wasm.stair_block_free(block);
          });
          return found;
        }),
      ),
    );
  }

  /**
   * RGBA of a file whose bundle was added. region: {left, top, width, height}; divisor: 1 to 64.
   * damage: with allowPartial, a sentence on what is missing; null if nothing is.
   */
  decode(bytes, fingerprint, { region, divisor, maxPixels, maxMemory, allowPartial, progress }) {
    return this.#run((wasm) => {
      const bundle = fingerprint === null ? 0 : this.#handle(wasm, fingerprint);
      const { left = 0, top = 0, width = 0, height = 0 } = region ?? {};
      this.#progress = progress;
      return this.#with(wasm, bytes, (data) =>
        this.#room(wasm, 12, (place) => {
          const partial = allowPartial ? 1 : 0;
          const pixels = wasm.stair_js_decode(bundle, data, bytes.length, left, top, width, height, divisor, maxPixels, maxMemory, partial, place);
          const [columns, rows, incomplete] = new Uint32Array(wasm.memory.buffer, place, 3);
          const damage = incomplete ? this.#text(wasm.stair_error_text()) : null;
          const result = new Uint8ClampedArray(wasm.memory.buffer.slice(pixels, pixels + 4 * columns * rows));
          wasm.stair_dealloc(pixels);
          return { width: columns, height: rows, data: result, damage };
        }),
      );
    });
  }

  /** SHA-256 over all symbols, hexadecimal: the same on every machine. */
  symbolHash(bytes, fingerprint) {
    return this.#run((wasm) => {
      const bundle = fingerprint === null ? 0 : this.#handle(wasm, fingerprint);
      return this.#with(wasm, bytes, (data) =>
        this.#room(wasm, 32, (place) => {
          wasm.stair_symbol_hash(bundle, data, bytes.length, place);
          return hexadecimal(this.#bytes(place, 32));
        }),
      );
    });
  }

  // After a failure nothing in the instance was cleaned up: it is given up, and bundles are opened
  // again in the next one when they are needed.
  #run(action) {
    this.#instance ??= this.#start();
    try {
      return action(this.#instance);
    } catch (error) {
      this.#instance = null;
      for (const bundle of this.#bundles.values()) bundle.handle = null;
      if (error instanceof StairError) throw error;
      if (error instanceof RangeError) throw new StairError("no-memory", "There is not enough memory for the picture.");
      throw new StairError("internal", `The decoder failed: ${error.message}.`);
    } finally {
      this.#progress = null;
    }
  }

  #start() {
    const nothing = new Proxy({}, { get: () => () => 0 });
    const instance = new WebAssembly.Instance(this.#module, {
      wasi_snapshot_preview1: nothing,
      softstair: {
        fail: (code, text) => {
          throw new StairError(CODES[code] ?? "internal", this.#text(text));
        },
        progress: (done) => (this.#progress?.(done) ? 1 : 0),
      },
    });
    instance.exports._initialize();
    return instance.exports;
  }

  #handle(wasm, fingerprint) {
    const bundle = this.#bundles.get(fingerprint);
    if (!bundle) throw new StairError("wrong-bundle", `Bundle ${fingerprint} is not there.`);
    bundle.handle ??= this.#with(wasm, bundle.bytes, (data) => wasm.stair_js_open(data, bundle.bytes.length));
    return bundle.handle;
  }

  #with(wasm, bytes, action) {
    return this.#room(wasm, bytes.length, (place) => {
      this.#bytes(place, bytes.length).set(bytes);
      return action(place);
    });
  }

  #room(wasm, size, action) {
    const place = wasm.stair_alloc(size);
    if (place === 0) throw new StairError("no-memory", "There is not enough memory for the file.");
    const result = action(place);
    wasm.stair_dealloc(place);
    return result;
  }

  #bytes(place, count) {
    return new Uint8Array(this.#instance.memory.buffer, place, count);
  }

  #text(place) {
    const memory = new Uint8Array(this.#instance.memory.buffer);
    return new TextDecoder().decode(memory.slice(place, memory.indexOf(0, place)));
  }
}
