// The picture of an answer: heat map more or less opaque, nearer and farther, and a region drawn with mouse, pen or finger.
(() => {
  'use strict';
  const {on} = window.medsharp;

  on('input', '.ms-opacity', slider => {
    const map = slider.closest('.ms-viewer').querySelector('.ms-map');
    map.style.opacity = slider.value / 100;
    slider.setAttribute('aria-valuetext', slider.value + ' percent');
  });

  const ZOOMS = [1, 1.5, 2, 3, 4, 6];
  on('click', '.ms-zoom', button => {
    const viewer = button.closest('.ms-viewer');
    const now = Number(viewer.dataset.zoom || 1);
    const place = Math.min(Math.max(ZOOMS.indexOf(now) + Number(button.value), 0), ZOOMS.length - 1);
    const zoom = button.value === '0' ? 1 : ZOOMS[place];
    const frame = viewer.querySelector('.ms-frame');
    const middle = [frame.scrollLeft + frame.clientWidth / 2, frame.scrollTop + frame.clientHeight / 2];
    viewer.dataset.zoom = zoom;
    viewer.querySelector('.ms-stack').style.width = 100 * zoom + '%';
    frame.scrollTo(middle[0] * zoom / now - frame.clientWidth / 2, middle[1] * zoom / now - frame.clientHeight / 2);
    viewer.querySelector('.ms-zoomed').textContent = Math.round(100 * zoom) + ' %';
  });

  // The region is held in pixels of the whole image, whatever part of it is shown and however large.
  const shown = card => {
    const [left, top, right, bottom] = (card.dataset.box || `0,0,${card.dataset.width},${card.dataset.height}`)
      .split(',').map(Number);
    return {left, top, width: right - left, height: bottom - top};
  };
  const fields = card => ['left', 'top', 'right', 'bottom'].map(side => card.querySelector(`.ms-region [name=${side}]`));

  const draw = card => {
    const mark = card.querySelector('.ms-box');
    const values = fields(card).map(field => field.value.trim());
    const whole = shown(card);
    const [left, top, right, bottom] = values.map(Number);
    const ready = values.every(Boolean) && right > left && bottom > top;
    mark.hidden = !ready;
    if (!ready) return;
    mark.style.left = 100 * (left - whole.left) / whole.width + '%';
    mark.style.top = 100 * (top - whole.top) / whole.height + '%';
    mark.style.width = 100 * (right - left) / whole.width + '%';
    mark.style.height = 100 * (bottom - top) / whole.height + '%';
  };
  on('input', '.ms-region input', field => draw(field.closest('.ms-card')));

  on('change', '.ms-drawing', toggle => {
    toggle.closest('.ms-card').querySelector('.ms-stack').classList.toggle('ms-draws', toggle.checked);
  });

  let start = null;
  const place = (stack, event) => {
    const area = stack.getBoundingClientRect();
    return [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height]
      .map(share => Math.min(Math.max(share, 0), 1));
  };
  on('pointerdown', '.ms-draws', (stack, event) => {
    event.preventDefault();
    stack.setPointerCapture(event.pointerId);
    start = {stack, from: place(stack, event)};
  });
  on('pointermove', '.ms-draws', (stack, event) => {
    if (start === null || start.stack !== stack) return;
    const card = stack.closest('.ms-card');
    const whole = shown(card);
    const [x, y] = place(stack, event);
    const [left, top, right, bottom] = fields(card);
    left.value = Math.floor(whole.left + whole.width * Math.min(x, start.from[0]));
    right.value = Math.ceil(whole.left + whole.width * Math.max(x, start.from[0]));
    top.value = Math.floor(whole.top + whole.height * Math.min(y, start.from[1]));
    bottom.value = Math.ceil(whole.top + whole.height * Math.max(y, start.from[1]));
    draw(card);
  });
  for (const end of ['pointerup', 'pointercancel']) document.addEventListener(end, () => { start = null; });
})();
