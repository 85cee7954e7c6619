// What differs between browsers and Node: here, browsers. Bundlers follow these addresses.

export function spawn(onMessage, onFailure) {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "softstair" });
  worker.onmessage = ({ data }) => onMessage(data);
  worker.onerror = (event) => onFailure(event.message || "its file cannot be loaded");
  return { post: (message) => worker.postMessage(message), end: () => worker.terminate() };
}

export const WASM = {
  simd: new URL("./softstair.wasm", import.meta.url).href,
  relaxed: new URL("./softstair-relaxed.wasm", import.meta.url).href,
};

export const absolute = (url) => new URL(url, typeof document === "undefined" ? location.href : document.baseURI).href;
