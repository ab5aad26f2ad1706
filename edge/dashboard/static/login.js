// Signing in: the token goes to the server once, in a request body, and comes back as a cookie scripts cannot read.

export async function signIn(token) {
  let reply;
  try {
    reply = await fetch("/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token }),
    });
  } catch {
    return "The dashboard does not answer.";
  }
  return reply.ok ? "" : sentence((await reply.json().catch(() => ({}))).error || `The dashboard answered ${reply.status}.`);
}

// A sign-in link carries the token in the fragment, which never leaves the browser; take it out of the address bar.
export function tokenFromAddress() {
  const match = /^#token=([A-Za-z0-9_-]+)$/.exec(location.hash);
  if (location.hash) history.replaceState(null, "", location.pathname);
  return match ? match[1] : "";
}

export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

if (document.body.classList.contains("login-page")) {
  const form = document.getElementById("login");
  const field = document.getElementById("token");
  const problem = document.getElementById("login-error");
  const attempt = async (token) => {
    problem.textContent = await signIn(token);
    if (!problem.textContent) location.replace("/");
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(field.value);
  });
  const token = tokenFromAddress();
  if (token) attempt(token);
}
