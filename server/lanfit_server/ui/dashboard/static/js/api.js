// Requests to the server. Changes are POSTs with JSON and a header, which no form of another site can send.

export class ApiError extends Error {
  constructor(status, body) {
    super(body.error || (status ? `The server answered ${status}.` : "The server does not answer."));
    this.status = status;
    this.hint = body.hint || "";
    this.code = body.code || "";
    this.fields = body.fields || {};
  }

  /** The message and what to do about it. */
  get text() {
    return this.hint ? `${this.message} ${this.hint}` : this.message;
  }
}

async function request(path, options) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new ApiError(0, { hint: "Is it still running?" });
  }
  const type = answer.headers.get("content-type") || "";
  const body = type.includes("json") ? await answer.json().catch(() => ({})) : await answer.text();
  if (!answer.ok) throw new ApiError(answer.status, typeof body === "string" ? {} : body);
  return body;
}

export const get = (path) => request(path, {});

export const post = (path, body = {}) => request(path, {
  method: "POST",
  headers: { "Content-Type": "application/json", "X-Lanfit": "1" },
  body: JSON.stringify(body),
});

export const path = (...parts) => `/api/${parts.map((part) => String(part).split("/").map(encodeURIComponent).join("/")).join("/")}`;
