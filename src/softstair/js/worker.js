// The worker of browsers.
import { makeServer, plain, transferable } from "./serve.js";

async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} cannot be fetched: ${response.status}.`);
  return new Uint8Array(await response.arrayBuffer());
}

let current = 0;
const answer = makeServer(fetched, (done) => postMessage({ id: current, done }));

onmessage = async ({ data }) => {
  try {
    current = data.id;
    const result = await answer(data.question);
    postMessage({ id: data.id, result }, transferable(result.value));
  } catch (error) {
    postMessage({ id: data.id, error: plain(error) });
  }
};
