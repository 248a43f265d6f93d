// Lease a machine, send it one job and release it, with the fetch of Node 18 or later.
const server = process.env.MACHINES_URL ?? "http://127.0.0.1:3038";

async function ask(method, url, body) {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
  const content = await answer.json();
  if (!answer.ok) {
    throw new Error(content.message ?? content.error); // 503: no machine is fit
  }
  return content;
}

const question = { model: "llama3.1:70b", cold: true, wait_s: 30, ttl_s: 600 };
const lease = await ask("POST", `${server}/api/leases`, question);
try {
  // fetch gives up if nothing comes for 300 s: a longer job needs `stream: true`.
  const job = { model: lease.model, prompt: "Why is the sky blue?", stream: false };
  const reply = await ask("POST", `${lease.url}/api/generate`, job);
  console.log(reply.response);
} finally {
  await ask("DELETE", `${server}/api/leases/${lease.lease}`);
}
