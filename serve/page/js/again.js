// The same image asked again: another frame, a region, another threshold looked at, the answer as a file.
(() => {
  'use strict';
  const {fileOf, on, post, problem, saveAnswer, say} = window.medsharp;

  const message = (card, node) => card.querySelector('.ms-message').replaceChildren(...(node ? [node] : []));
  const busy = (card, state) => {
    card.toggleAttribute('data-busy', state);
    card.setAttribute('aria-busy', String(state));
    for (const button of card.querySelectorAll('button')) button.disabled = state;
  };
  const asked = card => ({
    image: card.dataset.image, model: card.dataset.model, frame: card.dataset.frame, box: card.dataset.box,
  });

  const work = async (card, act) => {
    if (card.hasAttribute('data-busy')) return;
    busy(card, true);
    message(card, null);
    say('Working …');
    try {
      await act(await fileOf(card));
    } catch (error) {
      message(card, problem(error.message));
    } finally {
      busy(card, false);
    }
  };

  const again = (card, change) => work(card, async file => {
    const answer = await post('page/answer', file, {...asked(card), ...change});
    const drawn = new DOMParser().parseFromString(await answer.text(), 'text/html').querySelector('.ms-card');
    for (const name of ['sentBytes', 'sentCrc', 'example']) if (card.dataset[name]) drawn.dataset[name] = card.dataset[name];
    card.replaceWith(drawn);
    say(drawn.dataset.said);
    drawn.querySelector('.ms-name').focus();
  });

  on('submit', '.ms-region', (form, event) => {
    event.preventDefault();
    const values = ['left', 'top', 'right', 'bottom'].map(side => form.elements[side].value.trim());
    if (values.every(Boolean)) again(form.closest('.ms-card'), {box: values.join(',')});
    else message(form.closest('.ms-card'), problem('Draw a region on the image first, or give its four sides in pixels.'));
  });
  on('click', '.ms-whole', button => again(button.closest('.ms-card'), {box: ''}));
  on('submit', '.ms-frames', (form, event) => {
    event.preventDefault();
    again(form.closest('.ms-card'), {frame: form.elements.frame.value, box: ''});
  });
  on('input', '.ms-frames [type=range]', slider => { slider.form.elements.number.value = slider.value; });
  on('input', '.ms-frames [type=number]', field => { field.form.elements.frame.value = field.value; });
  on('click', '.ms-sharpest', button => again(button.closest('.ms-card'), {frame: '', box: ''}));
  on('click', '.ms-save', button => {
    const card = button.closest('.ms-card');
    work(card, async file => {
      await saveAnswer(await post('page/answer', file, {...asked(card), as: button.value}));
      say('Saved as ' + button.value.toUpperCase());
    });
  });

  const share = value => (100 * value).toFixed(1) + '\u00a0%';
  const between = limits => `(95\u00a0% interval ${share(limits[0])} to ${share(limits[1])})`;
  on('input', '.ms-threshold [type=range]', slider => {
    const part = slider.closest('.ms-threshold');
    const rates = JSON.parse(part.dataset.rates)[slider.value];
    const above = Number(part.dataset.probability) >= rates.threshold;
    slider.setAttribute('aria-valuetext', share(rates.threshold));
    part.querySelector('.ms-at').textContent = share(rates.threshold);
    part.querySelector('.ms-sensitivity').textContent = share(rates.sensitivity) + ' ' + between(rates.sensitivity_interval);
    part.querySelector('.ms-specificity').textContent = share(rates.specificity) + ' ' + between(rates.specificity_interval);
    part.querySelector('.ms-would').textContent = above ? 'at or above' : 'below';
  });
})();
