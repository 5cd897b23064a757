// Nothing is closed, removed or deleted without being asked about.

const $ = (id) => document.getElementById(id);

// Enter on an option is not yet a yes.
$('dialog').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && event.target instanceof HTMLInputElement) event.preventDefault();
});

/** Asks; resolves with the form's data if it is to be, with null if not. The focus goes back to where it was. */
export function confirm(title, yes, ...body) {
  const dialog = $('dialog');
  $('dialog-title').textContent = title;
  $('dialog-yes').textContent = yes;
  $('dialog-body').replaceChildren(...body);
  dialog.returnValue = '';
  dialog.showModal();
  // What destroys something is not where Enter already is.
  $('dialog-no').focus();
  $('dialog-no').onclick = () => dialog.close();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      resolve(dialog.returnValue === 'yes' ? new FormData(dialog.querySelector('form')) : null);
    }, { once: true });
  });
}
