import type { components, paths } from "./api.js";

type Route = paths["/api/route"]["get"]["responses"][200]["content"]["application/json"];
type Question = NonNullable<paths["/api/route"]["get"]["parameters"]["query"]>;
type Lease = components["schemas"]["GrantedLease"];

export async function pick(server: string, question: Question): Promise<Route | null> {
  const query = new URLSearchParams(Object.entries(question).map(([name, value]) => [name, String(value)]));
  const response = await fetch(`${server}/api/route?${query}`);
  return response.ok ? ((await response.json()) as Route) : null;
}

export const address = (lease: Lease): string => `${lease.url} until ${lease.expires_at}`;

export const question: Question = { model: "llama3.1:70b", min_free_vram_gb: 8, tag: ["eu"], cold: true };
