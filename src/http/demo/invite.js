// An invite link to hand on: copied, shared, or held before a phone.

const BACK_AFTER = 3_000;

/** Wires up a panel with `[data-copy]`, `[data-share]` and `[data-qr]`; returns what shows a link in it. */
export function invitePanel(panel) {
  let link = '';
  const find = (part) => panel.querySelector(`[data-${part}]`);
  const copy = find('copy');
  const share = find('share');
  const idle = copy.textContent;

  copy.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(link);
      copy.textContent = 'Copied';
    } catch {
      find('link').select();
      copy.textContent = 'Now press Ctrl+C';
    }
    setTimeout(() => { copy.textContent = idle; }, BACK_AFTER);
  });
  find('link').addEventListener('focus', () => find('link').select());

  share.hidden = !navigator.share;
  // Whoever changes their mind about sharing has done nothing wrong.
  share.addEventListener('click', () => navigator.share({ url: link, title: document.title }).catch(() => {}));

  return (url) => {
    link = url;
    find('link').value = url;
    find('qr').src = `/demo/qr.svg?${new URLSearchParams({ text: url })}`;
  };
}
