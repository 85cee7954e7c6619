// node web.mjs WASM BUNDLE STREAM MEMORY: what benchmarks/web.py asks for, as JSON. One round a line on standard input.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Core } from "../src/softstair/js/core.js";

const [, , wasmPath, bundlePath, streamPath, maxMemory] = process.argv;
const options = { divisor: 1, maxPixels: 2 ** 30, maxMemory: Number(maxMemory) };
const start = performance.now();
const core = new Core(await WebAssembly.compile(readFileSync(wasmPath)));
const fingerprint = core.addBundle(new Uint8Array(readFileSync(bundlePath)));
const stream = new Uint8Array(readFileSync(streamPath));
const decode = () => core.decode(stream, fingerprint, options);
decode();
const first = process.cpuUsage();
console.log(JSON.stringify({ first: performance.now() - start, cpu: (first.user + first.system) / 1000, memory: core.memory }));
for await (const _ of createInterface({ input: process.stdin })) {
  const before = process.cpuUsage();
  decode();
  const { user, system } = process.cpuUsage(before);
  console.log(JSON.stringify({ cpu: (user + system) / 1000, memory: core.memory }));
}
