// node symbols.mjs ROUNDS BUNDLE STREAM BUNDLE STREAM: milliseconds of all symbols, the two in turn, as JSON: [[..], [..]].
import { readFileSync } from "node:fs";
import { Core } from "../../src/softstair/js/core.js";

const [rounds, ...paths] = process.argv.slice(2);
const wasm = new URL("../../src/softstair/js/softstair.wasm", import.meta.url);
const core = new Core(await WebAssembly.compile(readFileSync(wasm)));
const [first, firstStream, second, secondStream] = paths.map((path) => new Uint8Array(readFileSync(path)));
const jobs = [
  [firstStream, core.addBundle(first)],
  [secondStream, core.addBundle(second)],
];
const taken = jobs.map(() => []);
// The first rounds are for the compiler.
for (let round = -6; round < Number(rounds); ++round)
  jobs.forEach(([stream, fingerprint], which) => {
    const before = process.cpuUsage();
    core.symbolHash(stream, fingerprint);
    const { user, system } = process.cpuUsage(before);
    if (round >= 0) taken[which].push((user + system) / 1000);
  });
console.log(JSON.stringify(taken));
