// The line in the status bar: size, time, cost and rate; a click opens the panel.

import { Widget } from '@lumino/widgets';

import { Model } from './model';
import { describeLeft, formatClock, formatDuration, formatRate, formatShort } from './text';

export class Bar extends Widget {
  private readonly button = document.createElement('button');

  constructor(
    private readonly model: Model,
    open: () => void
  ) {
    super();
    this.addClass('jp-nightingale-Bar');
    this.button.type = 'button';
    this.button.addEventListener('click', open);
    this.node.append(this.button);
    model.changed.connect(this.update, this);
    this.update();
  }

  protected onUpdateRequest(): void {
    this.button.textContent = describe(this.model);
    this.button.title = 'Nightingale: instance, cost, and what is logged';
    this.toggleClass('jp-mod-old', this.model.isOld);
    const left = this.model.status?.left;
    this.toggleClass('jp-mod-low', !!left && left.left_micro * 4 <= left.limit_micro);
  }
}

/** Return the line for what *model* heard last. */
export function describe(model: Model): string {
  const one = model.status?.instance;
  if (!model.status) {
    return model.error ? 'Nightingale: no answer' : 'Nightingale …';
  }
  if (!one) {
    return 'no instance';
  }
  const parts = [`cpu ${one.cpu}`];
  if (one.gpu !== 'none') {
    parts.push(`gpu ${one.gpu}`);
  }
  if (one.state !== 'running') {
    parts.push(one.state);
  }
  if (one.seconds !== null) {
    parts.push(formatDuration(one.seconds));
  }
  parts.push(one.amount_micro === null ? 'cost unknown' : formatShort(one.amount_micro, one.currency));
  if (one.nano_per_hour !== null) {
    parts.push(formatRate(one.nano_per_hour, one.currency));
  }
  const left = model.status.left;
  if (left) {
    const word = describeLeft(left.left_micro, left.limit_micro);
    const amount = `${formatShort(left.left_micro, left.currency)} left`;
    parts.push(word ? `${amount}, ${word}` : amount);
  }
  if (model.isOld) {
    parts.push(`as of ${formatClock(model.heardMs)}`);
  }
  return parts.join(' · ');
}
