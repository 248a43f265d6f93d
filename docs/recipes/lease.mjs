// Work under a lease: it is renewed meanwhile, `signal` aborts if it is lost, and it is released at the end.
const url = process.env.MACHINES_URL ?? "http://127.0.0.1:3038";
const server = url.includes("://") ? url : `http://${url}`;

async function ask(method, path, body) {
  const answer = await fetch(server + path, { method, body: JSON.stringify(body) });
  const content = await answer.json();
  if (!answer.ok) {
    throw Object.assign(new Error(content.message), { status: answer.status });
  }
  return content;
}

export async function withLease(question, work, ttl_s = 30) {
  const lease = await ask("POST", "/api/leases", { ...question, ttl_s }); // 503: no machine is fit
  const [path, lost] = [`/api/leases/${lease.lease}`, new AbortController()];
  const onError = (error) => [404, 409].includes(error.status) && lost.abort(error);
  const renewal = setInterval(() => ask("POST", `${path}/renew`, {}).catch(onError), (ttl_s * 1000) / 3);
  try {
    return await work(lease, lost.signal);
  } finally {
    clearInterval(renewal);
    await ask("DELETE", path).catch(() => {}); // then it expires by itself
  }
}
