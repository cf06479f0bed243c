// What a researcher does to the instance: keep it, give it another size, stop it. Each says what
// it will do and cost before it does, and what came of it after.

import { Dialog, Notification, showDialog, showErrorMessage } from '@jupyterlab/apputils';
import { Widget } from '@lumino/widgets';

import { ask, Instance, Plan, Resize, Size } from './api';
import { Model } from './model';
import { pagesUrl } from './pages';
import { formatMoney, formatRate } from './text';

const RESOURCES = ['cpu', 'gpu', 'disk'] as const;
const LOOK_PAUSE_MS = 1000;
const RESIZED_WITHIN_MS = 10 * 60 * 1000;
const HOUR_S = 3600;
/** Where an instance keeps its processes through a resize. */
const KEEPS_SERVER = ['local'];

/** Ask, then stop; resolves to whether the stop was accepted. */
export async function stop(model: Model, one: Instance): Promise<boolean> {
  const cost = one.amount_micro === null ? 'unknown' : formatMoney(one.amount_micro, one.currency);
  const answer = await showDialog({
    title: `Stop ${one.id}?`,
    body:
      `Cost so far: ${cost}. Kernels and terminals end at once, the files in your home stay, ` +
      'and the charge ends when the stop is accepted.',
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: 'Stop it' })],
    defaultButton: 0
  });
  if (!answer.button.accept) {
    return false;
  }
  return attempt('Nothing was stopped', async () => {
    await ask(model.settings, 'POST', 'stop');
  });
}

/** Keep the instance from being stopped as idle for an hour from now. */
export async function extend(model: Model): Promise<void> {
  await attempt('Nothing was changed', async () => {
    await ask(model.settings, 'POST', `extend?for_s=${HOUR_S}`);
    Notification.success('It is not stopped as idle for an hour from now.', { autoClose: 5000 });
  });
}

/** Let a size be chosen with its price, ask, resize, and tell how it ended. */
export async function resize(model: Model): Promise<void> {
  await attempt('Nothing was changed', async () => {
    const had = await ask<{ sizes: Size[]; currency: string }>(model.settings, 'GET', 'sizes');
    const chooser = new Chooser(model, had.sizes, had.currency);
    const answer = await showDialog({
      title: 'Another size',
      body: chooser,
      buttons: [Dialog.cancelButton(), Dialog.okButton({ label: 'Resize it' })],
      defaultButton: 0
    });
    if (!answer.button.accept) {
      return;
    }
    const wanted = chooser.chosen;
    if (Object.keys(wanted).length === 0) {
      return;
    }
    await ask(model.settings, 'POST', 'resize', wanted);
    if (!KEEPS_SERVER.includes(model.status?.instance?.cloud ?? '')) {
      // The server ends now: the hub's page shows how it goes on, and leads back to Lab.
      window.location.assign(`${pagesUrl()}resize?back=1`);
      return;
    }
    const id = Notification.emit('Resizing …', 'in-progress', { autoClose: false });
    const last = await waitResized(model);
    const isDone = last?.phase === 'done';
    Notification.update({
      id,
      message: last?.outcome || 'The resize goes on; the panel shows the size.',
      type: isDone ? 'success' : 'warning',
      autoClose: isDone ? 5000 : false
    });
    await model.refresh();
  });
}

/** A list per resource, and what the choice would do, as the console plans it. */
class Chooser extends Widget {
  private readonly lists = new Map<string, HTMLSelectElement>();
  private readonly outcome = document.createElement('p');
  private asked = 0;

  constructor(
    private readonly model: Model,
    sizes: Size[],
    currency: string
  ) {
    super();
    this.addClass('jp-nightingale-Chooser');
    for (const resource of RESOURCES) {
      const label = document.createElement('label');
      const list = document.createElement('select');
      for (const each of sizes.filter(size => size.resource === resource)) {
        list.add(buildOption(each, currency));
      }
      list.addEventListener('change', () => void this.plan());
      label.append(resource, list);
      this.node.append(label);
      this.lists.set(resource, list);
    }
    this.outcome.setAttribute('role', 'status');
    this.outcome.textContent = 'Choose another size: its price and what changes are shown here.';
    this.node.append(this.outcome);
  }

  /** What differs from the present size. */
  get chosen(): Record<string, string> {
    const chosen: Record<string, string> = {};
    for (const [resource, list] of this.lists) {
      const option = list.selectedOptions[0];
      if (option && option.dataset.current === undefined) {
        chosen[resource] = option.value;
      }
    }
    return chosen;
  }

  private async plan(): Promise<void> {
    const turn = ++this.asked;
    const query = new URLSearchParams(this.chosen).toString();
    let said = 'This is the size that it has.';
    if (query) {
      try {
        const { plan } = await ask<{ plan: Plan }>(this.model.settings, 'GET', `resize?${query}`);
        const more = plan.more_nano_per_hour;
        const apart = formatRate(Math.abs(more), plan.currency);
        const difference = `${more < 0 ? 'less' : 'more'} by ${apart}`;
        said =
          `${formatRate(plan.then.nano_per_hour, plan.currency)}, ${difference}. Files stay; programs that run may be interrupted. ` +
          'If the new size cannot be had, the old one is kept.';
      } catch (reason) {
        said = String((reason as Error).message);
      }
    }
    if (turn === this.asked) {
      this.outcome.textContent = said;
    }
  }
}

function buildOption(size: Size, currency: string): HTMLOptionElement {
  const nano = size.nano_per_hour;
  const rate = nano === null ? 'no price' : formatRate(nano, currency);
  const note = size.refusal ? `: ${size.refusal}` : '';
  const option = new Option(`${size.size}: ${size.gives}, ${rate}${note}`, size.size);
  option.disabled = size.refusal !== '';
  if (size.is_current) {
    option.dataset.current = '';
    option.selected = true;
  }
  return option;
}

async function waitResized(model: Model): Promise<Resize | null> {
  const deadline = Date.now() + RESIZED_WITHIN_MS;
  while (Date.now() < deadline) {
    // A hub or a server that is away for a moment does not end a resize.
    const answer = await ask<{ last: Resize | null }>(model.settings, 'GET', 'resize').catch(
      () => null
    );
    if (answer?.last && answer.last.ended_us !== null) {
      return answer.last;
    }
    await new Promise(resolve => window.setTimeout(resolve, LOOK_PAUSE_MS));
  }
  return null;
}

async function attempt(title: string, work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (reason) {
    await showErrorMessage(title, String((reason as Error).message));
    return false;
  }
}
