// What differs between browsers and Node: here, Node.
import { readFile } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import { fetched } from "./serve.js";

export function spawn(onMessage, onFailure) {
  const worker = new Worker(new URL("./worker-node.js", import.meta.url), { name: "softstair" });
  worker.on("message", onMessage);
  worker.on("error", (error) => onFailure(error.message));
  worker.unref(); // an idle decoder keeps no program alive
  return {
    post(message) {
      worker.ref();
      worker.postMessage(message);
    },
    idle: () => worker.unref(),
    end: () => worker.terminate(),
  };
}

export async function read(url) {
  if (url.startsWith("file:")) return new Uint8Array(await readFile(new URL(url)));
  return fetched(url);
}

export const WASM = {
  simd: new URL("./softstair.wasm", import.meta.url).href,
  relaxed: new URL("./softstair-relaxed.wasm", import.meta.url).href,
};

export const absolute = (url) => new URL(url, `file://${process.cwd()}/`).href;
