// The admin listener's API. The token is kept in this tab only and sent as a header, never in an address.

const KEY = "shunt-admin-token";

/** @returns {Record<string, string>} */
export function credentials() {
  const token = sessionStorage.getItem(KEY);
  return token ? { authorization: `Bearer ${token}` } : {};
}

/** @param {string} token */
export function keepToken(token) {
  sessionStorage.setItem(KEY, token);
}

export class ApiError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * What the gateway says; its errors are sentences.
 * @param {string} path relative to the page @param {"GET"|"POST"} [method] @param {AbortSignal} [signal]
 */
export async function ask(path, method = "GET", signal) {
  let answer;
  try {
    answer = await fetch(path, { method, headers: credentials(), cache: "no-store", signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "the gateway does not answer");
  }
  if (!answer.ok) throw new ApiError(answer.status, (await answer.text()).trim() || `status ${answer.status}`);
  return answer.json();
}
