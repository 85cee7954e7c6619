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
class StairError extends Error {
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
function chooseBuild() {
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

class Core {
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

// PNG without a canvas: a canvas multiplies colours by alpha, and some add noise on purpose.

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, i) => {
  let c = i;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

function crc32(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = CRC_TABLE[(c ^ byte) & 255] ^ (c >>> 8);
  return ~c >>> 0;
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

const latin = (text) => Uint8Array.from(text, (c) => c.charCodeAt(0));

function chunk(name, content) {
  const bytes = new Uint8Array(content.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set(latin(name), 4);
  bytes.set(content, 8);
  view.setUint32(8 + content.length, crc32(bytes.subarray(4, 8 + content.length)));
  return bytes;
}

// Rows less what Paeth predicts, each behind the number of that filter.
function filtered({ width, height, data }, channels) {
  const row = channels * width;
  const out = new Uint8Array((row + 1) * height);
  let above = new Uint8Array(row);
  let line = new Uint8Array(row);
  for (let y = 0, o = 0; y < height; y++) {
    for (let x = 0, i = 0, from = 4 * y * width; x < width; x++, from += 4)
      for (let c = 0; c < channels; c++) line[i++] = data[from + c];
    out[o++] = 4;
    for (let i = 0; i < row; i++) {
      const a = i < channels ? 0 : line[i - channels];
      const b = above[i];
      const c = i < channels ? 0 : above[i - channels];
      const toA = Math.abs(b - c);
      const toB = Math.abs(a - c);
      const toC = Math.abs(a + b - 2 * c);
      out[o++] = line[i] - (toA <= toB && toA <= toC ? a : toB <= toC ? b : c);
    }
    [above, line] = [line, above];
  }
  return out;
}

/**
 * The PNG of RGBA pixels, bit for bit, with a profile, EXIF and XMP if they are given.
 * @returns {Promise<Uint8Array>}
 */
async function toPng(picture, { icc, exif, xmp } = {}) {
  const { width, height, data } = picture;
  let opaque = true;
  for (let i = 3; i < data.length && opaque; i += 4) opaque = data[i] === 255;
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head[8] = 8;
  head[9] = opaque ? 2 : 6;
  const parts = [Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), chunk("IHDR", head)];
  if (icc) parts.push(chunk("iCCP", joined([latin("ICC profile\0\0"), await deflated(icc)])));
  if (exif) parts.push(chunk("eXIf", exif));
  if (xmp) parts.push(chunk("iTXt", joined([latin("XML:com.adobe.xmp\0\0\0\0\0"), xmp])));
  parts.push(chunk("IDAT", await deflated(filtered(picture, opaque ? 3 : 4))), chunk("IEND", new Uint8Array(0)));
  return joined(parts);
}

// Answers what index.js asks, in a worker or in the same thread. Questions are answered one by one.

/** Bytes of an address. */
async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} cannot be fetched: ${response.status}.`);
  return new Uint8Array(await response.arrayBuffer());
}

/**
 * @param read bytes of an address: (url) => Promise<Uint8Array>
 * @param report what is done of the question in hand: (done) => void
 */
function makeServer(read, report) {
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
function listener(read, post) {
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
function plain(error) {
  if (error instanceof StairError) return { code: error.code, message: error.message };
  return { code: "internal", message: String(error?.message ?? error) };
}

/** The buffers in a result that can be given away instead of copied. */
function transferable(value) {
  const buffer = value?.data?.buffer ?? value?.png?.buffer;
  return buffer ? [buffer] : [];
}


// A site's service worker: <img src="photo.stair">, srcset and CSS backgrounds become PNGs on the way.
//
// As one script, stair-service-worker.js, it takes its settings from its own address:
// stair-service-worker.js?files=/stair/ names the folder of softstair.wasm, softstair-relaxed.wasm and
// <fingerprint>.stairs, which are fetched when a picture first needs them.

const FILES = new URL(new URL(location.href).searchParams.get("files") ?? "./", location.href);
const CACHE = "softstair-1";
const MAGIC = [0xa5, 0x53, 0x54, 0x52];
const MOST_KEPT = 200;

const ask = makeServer(fetched, () => {});
let opened = null;
const bundles = new Map();

function once(fingerprint) {
  if (fingerprint === null) return Promise.resolve();
  if (!bundles.has(fingerprint)) {
    const source = new URL(`${fingerprint}.stairs`, FILES).href;
    bundles.set(fingerprint, ask({ ask: "bundle", source }));
    bundles.get(fingerprint).catch(() => bundles.delete(fingerprint));
  }
  return bundles.get(fingerprint);
}

async function pngOf(bytes) {
  const wasm = { simd: new URL("softstair.wasm", FILES).href, relaxed: new URL("softstair-relaxed.wasm", FILES).href };
  opened ??= ask({ ask: "open", wasm });
  await opened.catch((error) => {
    opened = null;
    throw error;
  });
  const { fingerprint } = (await ask({ ask: "info", bytes })).value;
  await once(fingerprint);
  const options = { divisor: 1, maxPixels: 2 ** 26, maxMemory: 5e8 };
  return (await ask({ ask: "png", bytes, fingerprint, options })).value.png;
}

// The picture by what it is, not by its address: HTTP's own cache decides whether that is new.
async function answered(request) {
  // A server that looks at Accept sends others a JPEG at the same address.
  const response = await fetch(request.url, { headers: { Accept: "image/x-stair,image/*;q=0.5" }, credentials: "same-origin" });
  if (!response.ok) return response;
  const bytes = new Uint8Array(await response.clone().arrayBuffer());
  if (MAGIC.some((byte, i) => bytes[i] !== byte)) return response;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const key = `/${Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("")}.png`;
  const cache = await caches.open(CACHE);
  const known = await cache.match(key);
  if (known) return known;
  try {
    const png = new Response(await pngOf(bytes), { headers: { "Content-Type": "image/png" } });
    await cache.put(key, png.clone());
    for (const old of (await cache.keys()).slice(0, -MOST_KEPT)) await cache.delete(old);
    return png;
  } catch (error) {
    console.error(`${request.url}: ${error.message}`);
    return Response.error();
  }
}

addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => {
  const { destination, url, method } = event.request;
  if (method === "GET" && destination === "image" && new URL(url).pathname.endsWith(".stair")) event.respondWith(answered(event.request));
});

