// Requests to the API, repeated until there is an answer that stays.

/** Spread, so that pages which were cut off together do not come back together. */
export const jittered = (ms) => ms * (0.5 + Math.random());

/** Kept for this tab, and never put into an address. */
export const token = sessionStorage.getItem("token");

/** The id in the token. Whether it is a good one, the API tells. */
export function memberOf(token) {
  try {
    const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return Number(JSON.parse(atob(claims)).sub);
  } catch {
    throw new Error("That is no token of a member.");
  }
}

/** The API refused; the message says why. */
export class Refused extends Error {
  constructor(response, problem) {
    const fields = (problem.errors ?? []).map(({ field, message }) => `${field} ${message}`);
    super([problem.detail ?? problem.title, ...fields].join(" "));
    this.status = response.status;
    this.reason = problem.reason;
    this.wait = Number(response.headers.get("retry-after")) * 1000;
  }
}

/** Asks again while the service is away or wants to be left alone: nothing here does more when it is
 *  done twice. */
export async function ask(method, path, body) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
    try {
      return await call(method, path, body);
    } catch (error) {
      if (error.status < 500 && error.status !== 429) throw error;
      await new Promise((resolve) => setTimeout(resolve, Math.max(jittered(wait), error.wait || 0)));
    }
  }
}

async function call(method, path, body) {
  const headers = { Authorization: `Bearer ${token}` };
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  if (response.status === 204) return undefined;
  const answer = await response.json();
  if (!response.ok) throw new Refused(response, answer);
  return answer;
}
