// Lease a machine, send it one job and release it, with the fetch of Node 18 or later.
import { withLease } from "./lease.mjs";

const question = { model: "llama3.1:70b", cold: true, wait_s: 30 };
const reply = await withLease(question, async (lease, signal) => {
  // fetch gives up if nothing comes for 300 s: a longer job needs `stream: true`.
  const job = { model: lease.model, prompt: "Why is the sky blue?", stream: false };
  const answer = await fetch(`${lease.url}/api/generate`, { method: "POST", body: JSON.stringify(job), signal });
  if (!answer.ok) {
    throw new Error(`${lease.machine}: status ${answer.status}`);
  }
  return answer.json();
});
console.log(reply.response);
