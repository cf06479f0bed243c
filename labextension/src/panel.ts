// The side panel: the instance, its cost, what is logged, and what can be done about it.

import { Widget } from '@lumino/widgets';

import { extend, resize, stop } from './actions';
import { Instance, Left, Status } from './api';
import { Model } from './model';
import { pagesUrl } from './pages';
import {
  describeLeft,
  formatClock,
  formatDuration,
  formatMoney,
  formatRate,
  formatShort
} from './text';

type Facts = [label: string, value: string][];

export class Panel extends Widget {
  private readonly note = element('p', 'jp-nightingale-note');
  private readonly sections = element('div');
  private readonly buttons = element('div', 'jp-nightingale-buttons');
  private readonly does: HTMLButtonElement[] = [];
  private isStopping = false;

  constructor(private readonly model: Model) {
    super();
    this.addClass('jp-nightingale-Panel');
    this.note.setAttribute('role', 'status');
    this.addButton('Keep 1 h', '', () => extend(model));
    this.addButton('Resize…', '', () => resize(model));
    this.addButton('Stop…', 'jp-mod-warn', () => this.askToStop());
    this.node.append(this.note, this.sections, this.buttons);
    model.changed.connect(this.update, this);
    this.update();
  }

  protected onUpdateRequest(): void {
    const { status } = this.model;
    this.note.textContent = this.describeAge();
    this.note.hidden = this.note.textContent === '';
    const one = status?.instance ?? null;
    for (const button of this.does) {
      button.disabled = this.isStopping || one === null || !isUp(one);
    }
    if (status) {
      this.sections.replaceChildren(...buildSections(status));
    }
  }

  private addButton(label: string, className: string, act: () => Promise<void>): void {
    const button = element('button', `jp-Button jp-mod-styled ${className}`, label);
    button.type = 'button';
    button.addEventListener('click', () => void act());
    this.does.push(button);
    this.buttons.append(button);
  }

  private describeAge(): string {
    if (!this.model.error) {
      return this.model.status ? '' : 'Asking …';
    }
    const heard = this.model.heardMs ? ` Figures as of ${formatClock(this.model.heardMs)}.` : '';
    return `${this.model.error.replace(/\.?$/, '.')}${heard}`;
  }

  private async askToStop(): Promise<void> {
    const one = this.model.status?.instance;
    if (one && (await stop(this.model, one))) {
      this.isStopping = true;
      this.update();
      // The server ends now; the hub's own pages go on.
      window.location.assign(pagesUrl());
    }
  }
}

function isUp(one: Instance): boolean {
  return one.state !== 'stopping' && one.state !== 'stopped';
}

function buildSections(status: Status): HTMLElement[] {
  const one = status.instance;
  const built = [section('Instance', one ? instanceFacts(one) : [['State', 'none runs here']])];
  const cost = section('Cost', costFacts(status));
  if (status.left) {
    cost.append(buildMeter(status.left));
  }
  built.push(cost);
  built.push(logSection(status));
  if (status.missing.length > 0) {
    built.push(section('Missing', status.missing.map(text => ['', text])));
  }
  return built;
}

function instanceFacts(one: Instance): Facts {
  const facts: Facts = [
    ['Size', one.size],
    ['State', one.is_healthy === false ? `${one.state}, does not answer` : one.state],
    ['Where', `${one.cloud} ${one.region}`],
    ['Id', one.id]
  ];
  if (one.reason) {
    facts.push(['Why it stops', one.reason]);
  }
  return facts;
}

function costFacts(status: Status): Facts {
  const one = status.instance;
  const unknown = 'unknown for now';
  const facts: Facts = [];
  if (one) {
    const rate = one.nano_per_hour;
    facts.push(['Rate', rate === null ? unknown : formatRate(rate, one.currency)]);
    facts.push(['Time', one.seconds === null ? unknown : formatDuration(one.seconds)]);
    const cost = one.amount_micro;
    facts.push(['So far', cost === null ? unknown : formatMoney(cost, one.currency)]);
  }
  const month = status.month_micro;
  facts.push(['This month', month === null ? unknown : formatMoney(month, status.currency)]);
  return facts;
}

function buildMeter(left: Left): HTMLElement {
  const built = element('p', 'jp-nightingale-left');
  const meter = element('meter');
  [meter.min, meter.max] = [0, left.limit_micro];
  meter.low = left.limit_micro / 4;
  meter.value = left.left_micro;
  meter.setAttribute('aria-label', 'Left to spend');
  const word = describeLeft(left.left_micro, left.limit_micro);
  const amount = formatShort(left.left_micro, left.currency);
  built.append(meter, `${amount} left of ${left.of}${word ? `: ${word}` : ''}`);
  return built;
}

function logSection(status: Status): HTMLElement {
  const facts: Facts = [];
  const { audit, local } = status;
  if (audit) {
    facts.push(['Files', audit.files.toLocaleString('en')]);
    facts.push(['Reads', audit.reads.toLocaleString('en')]);
    facts.push(['Bytes', audit.bytes.toLocaleString('en')]);
  }
  const built = section('What is logged', facts);
  if (local?.data_refused) {
    built.append(element('p', 'jp-nightingale-warn', `No data: ${local.data_refused}`));
  }
  const said =
    'Every read of a dataset is recorded: who, which file, which part, when, how long, and by ' +
    'which program. Your own files and what you type are not.';
  built.append(element('p', '', said));
  const datasets = element('ul');
  for (const each of status.datasets) {
    datasets.append(element('li', '', `${each.title} (${each.name})`));
  }
  const link = element('a', '', 'What was read');
  link.href = `${pagesUrl()}reads`;
  link.target = '_blank';
  link.rel = 'noopener';
  built.append(datasets, link);
  return built;
}

function section(title: string, facts: Facts): HTMLElement {
  const built = element('section');
  built.append(element('h3', '', title));
  const list = element('dl');
  for (const [label, value] of facts) {
    list.append(element('dt', '', label), element('dd', '', value));
  }
  built.append(list);
  return built;
}

// Text only: what the hub or a researcher's file is called never becomes markup.
function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = '',
  text = ''
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
