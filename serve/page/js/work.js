// Long work: many images, one image corrupted, one image asked of all models; with progress, and stopped when asked to.
(() => {
  'use strict';
  const {fileOf, lastCard, on, post, problem, save, say, stream} = window.medsharp;

  const base64 = file => new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.split(',')[1] || '');
    reader.onerror = () => failed(new Error('The table of labels cannot be read.'));
    reader.readAsDataURL(file);
  });

  const show = (section, step) => {
    const place = section.querySelector('.ms-progress');
    place.hidden = step === null;
    if (step === null) return;
    const bar = place.querySelector('progress');
    bar.max = step.total;
    bar.value = step.done;
    place.querySelector('span').textContent = `${step.what}: ${step.done} of ${step.total}`;
  };

  const begin = async (form, path, given) => {
    const section = form.closest('.ms-work');
    if (section.hasAttribute('data-busy')) return;
    const [message, outcome] = ['.ms-message', '.ms-outcome'].map(name => section.querySelector(name));
    const [start, stop] = ['.ms-main', '.ms-stop'].map(name => form.querySelector(name));
    const control = new AbortController();
    const halt = () => control.abort();
    section.setAttribute('data-busy', '');
    start.disabled = true;
    stop.hidden = false;
    stop.addEventListener('click', halt);
    message.replaceChildren();
    outcome.replaceChildren();
    say('Working …');
    try {
      const {files, fields} = await given();
      const last = await stream(await post(path, files, fields, control.signal), step => show(section, step));
      outcome.innerHTML = last.html;
      if (last.csv) keep(outcome, last);
      say(outcome.querySelector('[data-said]')?.dataset.said || 'Done');
    } catch (error) {
      message.replaceChildren(problem(error.name === 'AbortError' ? 'Stopped.' : error.message));
    } finally {
      stop.removeEventListener('click', halt);
      stop.hidden = true;
      start.disabled = false;
      section.removeAttribute('data-busy');
      show(section, null);
    }
  };

  const button = (words, act) => {
    const made = document.createElement('button');
    made.type = 'button';
    made.textContent = words;
    made.addEventListener('click', act);
    return made;
  };

  // What is saved is in this page already: nothing more is asked of the server.
  const keep = (outcome, {csv, report, no_report}) => {
    const saves = document.createElement('p');
    saves.className = 'ms-inline';
    saves.append(button('Save the table (CSV)', () => save(new Blob([csv], {type: 'text/csv'}), 'predictions.csv')));
    outcome.prepend(saves);
    if (no_report) outcome.prepend(problem('No report: ' + no_report + '.'));
    if (!report) return;
    saves.append(button('Save the report (HTML)', () => save(new Blob([report], {type: 'text/html'}), 'report.html')));
    const title = document.createElement('h3');
    title.textContent = 'Report of the evaluation';
    const frame = document.createElement('iframe');
    frame.title = 'Report of the evaluation';
    frame.className = 'ms-report';
    frame.setAttribute('sandbox', '');
    frame.srcdoc = report;
    outcome.append(title, frame);
  };

  on('submit', '.ms-batch-form', (form, event) => {
    event.preventDefault();
    begin(form, 'page/batch', async () => {
      const {images, labels, model} = form.elements;
      const fields = {model: model?.value};
      if (labels.files.length) {
        fields.labels = await base64(labels.files[0]);
        if (fields.labels === '') throw new Error('The table of labels is empty.');
        fields.labels_name = labels.files[0].name;
      }
      return {files: [...images.files], fields};
    });
  });

  on('submit', '.ms-one', (form, event) => {
    event.preventDefault();
    begin(form, form.dataset.path, async () => {
      const card = lastCard();
      if (card === null) throw new Error('Assess an image first, in the tab Assess.');
      const {image, frame, box, model} = card.dataset;
      return {
        files: [await fileOf(card)],
        fields: {image, frame, box, model, ...Object.fromEntries(new FormData(form))},
      };
    });
  });

  on('click', '.ms-sort', head => {
    const table = head.closest('table');
    const column = Number(head.dataset.column);
    const cell = head.closest('th');
    const down = cell.getAttribute('aria-sort') === 'ascending';
    for (const other of table.querySelectorAll('th')) other.removeAttribute('aria-sort');
    cell.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const value = row => row.cells[column].dataset.sort;
    const compare = (a, b) => value(a).localeCompare(value(b), undefined, {numeric: true, sensitivity: 'base'});
    const numbers = (a, b) => Number(value(a)) - Number(value(b));
    const rows = [...table.tBodies[0].rows];
    rows.sort(rows.every(row => value(row) !== '' && !Number.isNaN(Number(value(row)))) ? numbers : compare);
    table.tBodies[0].append(...(down ? rows.reverse() : rows));
  });

  const filter = part => {
    const table = part.closest('.ms-batch');
    const which = table.querySelector('.ms-which').value;
    const holds = table.querySelector('.ms-holds').value.toLowerCase();
    let shown = 0;
    for (const row of table.querySelector('tbody').rows) {
      const kind = which === '' || row.dataset.kinds.split(' ').includes(which);
      row.hidden = !(kind && row.cells[0].textContent.toLowerCase().includes(holds));
      shown += row.hidden ? 0 : 1;
    }
    table.querySelector('.ms-shown').textContent = `${shown} shown`;
  };
  on('input', '.ms-holds', filter);
  on('change', '.ms-which', filter);
})();
