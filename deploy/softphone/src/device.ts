// The device's identity: a UUID of its own for every number, kept by the
// browser. A second tab for the same number is another device, so that the two
// do not take each other's calls.

export async function deviceId(number: string): Promise<string> {
  const key = `isthmus.device.${number}`;
  const tab = sessionStorage.getItem(key);
  const usual = localStorage.getItem(key) ?? crypto.randomUUID();
  localStorage.setItem(key, usual);
  const candidates = [...new Set([tab ?? usual, usual, crypto.randomUUID()])];
  for (const id of candidates) {
    // A reloaded page may have to wait for its former self to let go.
    if (await hold(`isthmus.device.${id}`, id === tab ? 1500 : 0)) {
      sessionStorage.setItem(key, id);
      return id;
    }
  }
  return usual;
}

/** Takes a lock for as long as the page lives. */
function hold(name: string, wait: number): Promise<boolean> {
  if (!navigator.locks) return Promise.resolve(true);
  return new Promise((resolve) => {
    const options: LockOptions = wait > 0 ? { signal: AbortSignal.timeout(wait) } : { ifAvailable: true };
    navigator.locks.request(name, options, (lock) => {
      resolve(lock !== null);
      return lock ? new Promise(() => {}) : undefined;
    }).catch(() => resolve(false));
  });
}
