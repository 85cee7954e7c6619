// A site's service worker: <img src="photo.stair">, srcset and CSS backgrounds become PNGs on the way.
//
// As one script, stair-service-worker.js, it takes its settings from its own address:
// stair-service-worker.js?files=/stair/ names the folder of softstair.wasm, softstair-relaxed.wasm and
// <fingerprint>.stairs, which are fetched when a picture first needs them.
import { fetched, makeServer } from "./serve.js";

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
