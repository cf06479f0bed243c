"use strict";(self.rspackChunknightingale_hub=self.rspackChunknightingale_hub||[]).push([[15],{226(t,e,n){n.r(e),n.d(e,{default:()=>D});var i=n(369),a=n(2),s=n(442),o=n(256);n(665);var r=n(660);function l(t,e){return f(g(t,6),e)}function c(t,e){let n=t<0?"-":"",i=Math.floor(Math.abs(t)/1e4);return 0===i&&0!==t?`${n}<${f("0.01",e)}`:n+f(`${m(Math.floor(i/100))}.${String(i%100).padStart(2,"0")}`,e)}function u(t,e){return 10*t<=e?"nearly spent":4*t<=e?"low":""}function h(t,e){return`${f(g(t,9),e)}/h`}function d(t){let e=Math.floor(t/60),n=Math.floor(e/60);return n>0?`${m(n)} h ${e%60} min`:e>0?`${e} min ${t%60} s`:`${t} s`}function p(t){let e=new Date(t),n=t=>String(t).padStart(2,"0");return`${n(e.getHours())}:${n(e.getMinutes())}`}function g(t,e){let n=t<0?"-":"",i=10**e,a=Math.floor(Math.abs(t)/i),s=String(Math.abs(t)%i).padStart(e,"0");return`${n}${m(a)}.${s.replace(/0+$/,"").padEnd(2,"0")}`}function f(t,e){return"USD"!==e?`${t} ${e??""}`.trim():t.startsWith("-")?`-$${t.slice(1)}`:`$${t}`}function m(t){return String(t).replace(/\B(?=(\d{3})+$)/g,",")}class w extends r.Widget{constructor(t,e){super(),this.model=t,this.button=document.createElement("button"),this.addClass("jp-nightingale-Bar"),this.button.type="button",this.button.addEventListener("click",e),this.node.append(this.button),t.changed.connect(this.update,this),this.update()}onUpdateRequest(){this.button.textContent=function(t){let e=t.status?.instance;if(!t.status)return t.error?"Nightingale: no answer":"Nightingale …";if(!e)return"no instance";let n=[`cpu ${e.cpu}`];"none"!==e.gpu&&n.push(`gpu ${e.gpu}`),"running"!==e.state&&n.push(e.state),null!==e.seconds&&n.push(d(e.seconds)),n.push(null===e.amount_micro?"cost unknown":c(e.amount_micro,e.currency)),null!==e.nano_per_hour&&n.push(h(e.nano_per_hour,e.currency));let i=t.status.left;if(i){let t=u(i.left_micro,i.limit_micro),e=`${c(i.left_micro,i.currency)} left`;n.push(t?`${e}, ${t}`:e)}return t.isOld&&n.push(`as of ${p(t.heardMs)}`),n.join(" \xb7 ")}(this.model),this.button.title="Nightingale: instance, cost, and what is logged",this.toggleClass("jp-mod-old",this.model.isOld);let t=this.model.status?.left;this.toggleClass("jp-mod-low",!!t&&4*t.left_micro<=t.limit_micro)}}var y=n(904),b=n(500),v=n(401),$=n(901);class x extends Error{}async function j(t,e,n,i){let a,[s,o]=n.split("?"),r=$.URLExt.join(t.baseUrl,"nightingale","api",s),l=o?`${r}?${o}`:r,c={method:e,cache:"no-store"};"POST"===e&&(c.body=JSON.stringify(i??{}),c.headers={"Content-Type":"application/json"});try{a=await y.ServerConnection.makeRequest(l,c,t)}catch{throw new x("The instance does not answer.")}let u=await a.json().catch(()=>null);if(!a.ok||null===u)throw new x(u?.error?.message??`The instance answered ${a.status}.`);return u}class S{constructor(){this.settings=y.ServerConnection.makeSettings(),this.status=null,this.heardMs=0,this.error="",this.missed=0,this.changes=new v.Signal(this),this.lastNotice=null,this.poll=new b.Poll({name:"nightingale-hub:status",factory:()=>this.look(),frequency:{interval:2e3,backoff:!1,max:1e4},standby:"when-hidden"}),this.notices=new b.Poll({name:"nightingale-hub:notices",factory:()=>this.lookForNotices(),frequency:{interval:1e4,backoff:!0,max:6e4},standby:"never"})}dispose(){this.poll.dispose(),this.notices.dispose()}get changed(){return this.changes}get isOld(){return this.missed>=2}async refresh(){await this.poll.refresh()}async lookForNotices(){let t=this.lastNotice??0,e=await j(this.settings,"GET",`notices?after=${t}`),n=null===this.lastNotice;if(this.lastNotice=Math.max(t,...e.notices.map(t=>t.id)),!n)for(let t of e.notices.reverse()){let e="run"===t.kind?"info":"warning";a.Notification.emit(`${t.subject}: ${t.body}`,e,{autoClose:!1})}}async look(){try{this.status=await j(this.settings,"GET","status"),this.heardMs=Date.now(),this.error="",this.missed=0}catch(t){throw this.error=String(t.message),this.missed+=1,t}finally{this.changes.emit()}}}function k(){let t=$.PageConfig.getOption("hubPrefix")||"/hub/";return`${t.replace(/hub\/$/,"")}services/console/`}let _=["cpu","gpu","disk"],C=["local"];async function T(t,e){let n=null===e.amount_micro?"unknown":l(e.amount_micro,e.currency);return!!(await (0,a.showDialog)({title:`Stop ${e.id}?`,body:`Cost so far: ${n}. Kernels and terminals end at once, the files in your home stay, and the charge ends when the stop is accepted.`,buttons:[a.Dialog.cancelButton(),a.Dialog.warnButton({label:"Stop it"})],defaultButton:0})).button.accept&&B("Nothing was stopped",async()=>{await j(t.settings,"POST","stop")})}async function M(t){await B("Nothing was changed",async()=>{await j(t.settings,"POST","extend?for_s=3600"),a.Notification.success("It is not stopped as idle for an hour from now.",{autoClose:5e3})})}async function N(t){await B("Nothing was changed",async()=>{let e=await j(t.settings,"GET","sizes"),n=new z(t,e.sizes,e.currency);if(!(await (0,a.showDialog)({title:"Another size",body:n,buttons:[a.Dialog.cancelButton(),a.Dialog.okButton({label:"Resize it"})],defaultButton:0})).button.accept)return;let i=n.chosen;if(0===Object.keys(i).length)return;if(await j(t.settings,"POST","resize",i),!C.includes(t.status?.instance?.cloud??""))return void window.location.assign(`${k()}resize?back=1`);let s=a.Notification.emit("Resizing …","in-progress",{autoClose:!1}),o=await E(t),r=o?.phase==="done";a.Notification.update({id:s,message:o?.outcome||"The resize goes on; the panel shows the size.",type:r?"success":"warning",autoClose:!!r&&5e3}),await t.refresh()})}class z extends r.Widget{constructor(t,e,n){for(let i of(super(),this.model=t,this.lists=new Map,this.outcome=document.createElement("p"),this.asked=0,this.addClass("jp-nightingale-Chooser"),_)){let t=document.createElement("label"),a=document.createElement("select");for(let t of e.filter(t=>t.resource===i))a.add(function(t,e){let n=t.nano_per_hour,i=null===n?"no price":h(n,e),a=t.refusal?`: ${t.refusal}`:"",s=new Option(`${t.size}: ${t.gives}, ${i}${a}`,t.size);return s.disabled=""!==t.refusal,t.is_current&&(s.dataset.current="",s.selected=!0),s}(t,n));a.addEventListener("change",()=>void this.plan()),t.append(i,a),this.node.append(t),this.lists.set(i,a)}this.outcome.setAttribute("role","status"),this.outcome.textContent="Choose another size: its price and what changes are shown here.",this.node.append(this.outcome)}get chosen(){let t={};for(let[e,n]of this.lists){let i=n.selectedOptions[0];i&&void 0===i.dataset.current&&(t[e]=i.value)}return t}async plan(){let t=++this.asked,e=new URLSearchParams(this.chosen).toString(),n="This is the size that it has.";if(e)try{let{plan:t}=await j(this.model.settings,"GET",`resize?${e}`),i=t.more_nano_per_hour,a=h(Math.abs(i),t.currency),s=`${i<0?"less":"more"} by ${a}`;n=`${h(t.then.nano_per_hour,t.currency)}, ${s}. Files stay; programs that run may be interrupted. If the new size cannot be had, the old one is kept.`}catch(t){n=String(t.message)}t===this.asked&&(this.outcome.textContent=n)}}async function E(t){let e=Date.now()+6e5;for(;Date.now()<e;){let e=await j(t.settings,"GET","resize").catch(()=>null);if(e?.last&&null!==e.last.ended_us)return e.last;await new Promise(t=>window.setTimeout(t,1e3))}return null}async function B(t,e){try{return await e(),!0}catch(e){return await (0,a.showErrorMessage)(t,String(e.message)),!1}}class P extends r.Widget{constructor(t){super(),this.model=t,this.note=I("p","jp-nightingale-note"),this.sections=I("div"),this.buttons=I("div","jp-nightingale-buttons"),this.does=[],this.isStopping=!1,this.addClass("jp-nightingale-Panel"),this.note.setAttribute("role","status"),this.addButton("Keep 1 h","",()=>M(t)),this.addButton("Resize…","",()=>N(t)),this.addButton("Stop…","jp-mod-warn",()=>this.askToStop()),this.node.append(this.note,this.sections,this.buttons),t.changed.connect(this.update,this),this.update()}onUpdateRequest(){var t,e,n,i;let a,s,o,r,p,g,f,m,{status:w}=this.model;this.note.textContent=this.describeAge(),this.note.hidden=""===this.note.textContent;let y=w?.instance??null;for(let e of this.does){e.disabled=this.isStopping||null===y||"stopping"===(t=y).state||"stopped"===t.state}w&&this.sections.replaceChildren(...(o=[A("Instance",(s=(e=w).instance)?(a=[["Size",(n=s).size],["State",!1===n.is_healthy?`${n.state}, does not answer`:n.state],["Where",`${n.cloud} ${n.region}`],["Id",n.id]],n.reason&&a.push(["Why it stops",n.reason]),a):[["State","none runs here"]])],r=A("Cost",function(t){let e=t.instance,n="unknown for now",i=[];if(e){let t=e.nano_per_hour;i.push(["Rate",null===t?n:h(t,e.currency)]),i.push(["Time",null===e.seconds?n:d(e.seconds)]);let a=e.amount_micro;i.push(["So far",null===a?n:l(a,e.currency)])}let a=t.month_micro;return i.push(["This month",null===a?n:l(a,t.currency)]),i}(e)),e.left&&r.append((i=e.left,p=I("p","jp-nightingale-left"),g=I("meter"),[g.min,g.max]=[0,i.limit_micro],g.low=i.limit_micro/4,g.value=i.left_micro,g.setAttribute("aria-label","Left to spend"),f=u(i.left_micro,i.limit_micro),m=c(i.left_micro,i.currency),p.append(g,`${m} left of ${i.of}${f?`: ${f}`:""}`),p)),o.push(r),o.push(function(t){let e=[],{audit:n,local:i}=t;n&&(e.push(["Files",n.files.toLocaleString("en")]),e.push(["Reads",n.reads.toLocaleString("en")]),e.push(["Bytes",n.bytes.toLocaleString("en")]));let a=A("What is logged",e);i?.data_refused&&a.append(I("p","jp-nightingale-warn",`No data: ${i.data_refused}`)),a.append(I("p","","Every read of a dataset is recorded: who, which file, which part, when, how long, and by which program. Your own files and what you type are not."));let s=I("ul");for(let e of t.datasets)s.append(I("li","",`${e.title} (${e.name})`));let o=I("a","","What was read");return o.href=`${k()}reads`,o.target="_blank",o.rel="noopener",a.append(s,o),a}(e)),e.missing.length>0&&o.push(A("Missing",e.missing.map(t=>["",t]))),o))}addButton(t,e,n){let i=I("button",`jp-Button jp-mod-styled ${e}`,t);i.type="button",i.addEventListener("click",()=>void n()),this.does.push(i),this.buttons.append(i)}describeAge(){if(!this.model.error)return this.model.status?"":"Asking …";let t=this.model.heardMs?` Figures as of ${p(this.model.heardMs)}.`:"";return`${this.model.error.replace(/\.?$/,".")}${t}`}async askToStop(){let t=this.model.status?.instance;t&&await T(this.model,t)&&(this.isStopping=!0,this.update(),window.location.assign(k()))}}function A(t,e){let n=I("section");n.append(I("h3","",t));let i=I("dl");for(let[t,n]of e)i.append(I("dt","",t),I("dd","",n));return n.append(i),n}function I(t,e="",n=""){let i=document.createElement(t);return i.className=e,i.textContent=n,i}let L="nightingale-hub:open",O=new o.LabIcon({name:"nightingale-hub:meter",svgstr:'<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><path class="jp-icon3" fill="#616161" d="M12 3a10 10 0 0 0-9 14.4h2.3A8 8 0 1 1 18.7 17.4H21A10 10 0 0 0 12 3zm5.2 4.7-4.6 5a2 2 0 1 0 1.3 1.2z"/></svg>'}),D={id:"nightingale-hub:plugin",description:"The instance, its cost, and what is logged.",autoStart:!0,optional:[i.ILabShell,s.IStatusBar,a.ICommandPalette],activate:(t,e,n,i)=>{let a=new S,s=new P(a);s.id="nightingale-hub-panel",s.title.icon=O,s.title.caption="Nightingale: instance, cost, what is logged",t.shell.add(s,"right",{rank:200,type:"Nightingale"}),t.commands.addCommand(L,{label:"Nightingale: Instance and Cost",describedBy:{args:{type:"object",properties:{}}},icon:O,execute:()=>t.shell.activateById(s.id)}),i?.addItem({command:L,category:"Nightingale"}),null!==e&&null!==n&&n.registerStatusItem("nightingale-hub:bar",{item:new w(a,()=>void t.commands.execute(L)),align:"left",rank:900,priority:1})}}},646(t,e,n){var i=n(601),a=n.n(i),s=n(314),o=(n.n(s))()(a());o.push([t.id,`.jp-nightingale-Bar {
  display: flex;
  height: 100%;
}

.jp-nightingale-Bar button {
  border: 0;
  height: 100%;
  padding: 0 6px;
  background: none;
  color: inherit;
  font: inherit;
  font-variant-numeric: tabular-nums;
  white-space: nowrap;
  cursor: pointer;
}

.jp-nightingale-Bar button:hover {
  background: var(--jp-layout-color3);
}

.jp-nightingale-Bar.jp-mod-old button {
  font-style: italic;
}

.jp-nightingale-Panel {
  overflow: auto;
  padding: 8px 12px 16px;
  background: var(--jp-layout-color1);
  color: var(--jp-ui-font-color1);
  font-size: var(--jp-ui-font-size1);
}

.jp-nightingale-Panel h3 {
  margin: 12px 0 4px;
  font-size: var(--jp-ui-font-size1);
}

.jp-nightingale-Panel dl {
  display: grid;
  grid-template-columns: max-content 1fr;
  gap: 2px 12px;
  margin: 0;
}

.jp-nightingale-Panel dt {
  color: var(--jp-ui-font-color2);
}

.jp-nightingale-Panel dd {
  margin: 0;
  overflow-wrap: anywhere;
  text-align: right;
  font-variant-numeric: tabular-nums;
}

.jp-nightingale-Panel p {
  margin: 6px 0;
}

.jp-nightingale-Panel ul {
  margin: 6px 0;
  padding-left: 18px;
}

.jp-nightingale-Panel a {
  color: var(--jp-content-link-color);
  text-decoration: underline;
}

.jp-nightingale-buttons {
  display: flex;
  flex-wrap: wrap;
  gap: 8px;
  margin-top: 16px;
}

.jp-nightingale-Chooser label {
  display: grid;
  grid-template-columns: 4em 1fr;
  gap: 8px;
  align-items: center;
  margin: 6px 0;
}

.jp-nightingale-note,
.jp-nightingale-warn {
  border-left: 4px solid var(--jp-warn-color1);
  padding: 2px 8px;
  background: var(--jp-layout-color2);
}

.jp-nightingale-Bar.jp-mod-low button {
  font-weight: 600;
}

.jp-nightingale-left meter {
  display: block;
  width: 100%;
}
`,""]),n.d(e,{},{A:o})},314(t){t.exports=function(t){var e=[];return e.toString=function(){return this.map(function(e){var n="",i=void 0!==e[5];return e[4]&&(n+="@supports (".concat(e[4],") {")),e[2]&&(n+="@media ".concat(e[2]," {")),i&&(n+="@layer".concat(e[5].length>0?" ".concat(e[5]):""," {")),n+=t(e),i&&(n+="}"),e[2]&&(n+="}"),e[4]&&(n+="}"),n}).join("")},e.i=function(t,n,i,a,s){"string"==typeof t&&(t=[[null,t,void 0]]);var o={};if(i)for(var r=0;r<this.length;r++){var l=this[r][0];null!=l&&(o[l]=!0)}for(var c=0;c<t.length;c++){var u=[].concat(t[c]);i&&o[u[0]]||(void 0!==s&&(void 0===u[5]||(u[1]="@layer".concat(u[5].length>0?" ".concat(u[5]):""," {").concat(u[1],"}")),u[5]=s),n&&(u[2]&&(u[1]="@media ".concat(u[2]," {").concat(u[1],"}")),u[2]=n),a&&(u[4]?(u[1]="@supports (".concat(u[4],") {").concat(u[1],"}"),u[4]=a):u[4]="".concat(a)),e.push(u))}},e}},601(t){t.exports=function(t){return t[1]}},665(t,e,n){n.r(e);var i=n(72),a=n.n(i),s=n(825),o=n.n(s),r=n(659),l=n.n(r),c=n(56),u=n.n(c),h=n(540),d=n.n(h),p=n(113),g=n.n(p),f=n(646),m={};m.styleTagTransform=g(),m.setAttributes=u(),m.insert=l().bind(null,"head"),m.domAPI=o(),m.insertStyleElement=d(),a()(f.A,m);let w=f.A&&f.A.locals?f.A.locals:void 0;n.d(e,{},{default:w})},72(t){var e=[];function n(t){for(var n=-1,i=0;i<e.length;i++)if(e[i].identifier===t){n=i;break}return n}function i(t,i){for(var a={},s=[],o=0;o<t.length;o++){var r=t[o],l=i.base?r[0]+i.base:r[0],c=a[l]||0,u="".concat(l," ").concat(c);a[l]=c+1;var h=n(u),d={css:r[1],media:r[2],sourceMap:r[3],supports:r[4],layer:r[5]};if(-1!==h)e[h].references++,e[h].updater(d);else{var p=function(t,e){var n=e.domAPI(e);return n.update(t),function(e){e?(e.css!==t.css||e.media!==t.media||e.sourceMap!==t.sourceMap||e.supports!==t.supports||e.layer!==t.layer)&&n.update(t=e):n.remove()}}(d,i);i.byIndex=o,e.splice(o,0,{identifier:u,updater:p,references:1})}s.push(u)}return s}t.exports=function(t,a){var s=i(t=t||[],a=a||{});return function(t){t=t||[];for(var o=0;o<s.length;o++){var r=n(s[o]);e[r].references--}for(var l=i(t,a),c=0;c<s.length;c++){var u=n(s[c]);0===e[u].references&&(e[u].updater(),e.splice(u,1))}s=l}}},659(t){var e={};t.exports=function(t,n){var i=function(t){if(void 0===e[t]){var n=document.querySelector(t);if(window.HTMLIFrameElement&&n instanceof window.HTMLIFrameElement)try{n=n.contentDocument.head}catch(t){n=null}e[t]=n}return e[t]}(t);if(!i)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");i.appendChild(n)}},540(t){t.exports=function(t){var e=document.createElement("style");return t.setAttributes(e,t.attributes),t.insert(e,t.options),e}},56(t,e,n){t.exports=function(t){var e=n.nc;e&&t.setAttribute("nonce",e)}},825(t){t.exports=function(t){if("u"<typeof document)return{update:function(){},remove:function(){}};var e=t.insertStyleElement(t);return{update:function(n){var i,a,s;i="",n.supports&&(i+="@supports (".concat(n.supports,") {")),n.media&&(i+="@media ".concat(n.media," {")),(a=void 0!==n.layer)&&(i+="@layer".concat(n.layer.length>0?" ".concat(n.layer):""," {")),i+=n.css,a&&(i+="}"),n.media&&(i+="}"),n.supports&&(i+="}"),(s=n.sourceMap)&&"u">typeof btoa&&(i+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(s))))," */")),t.styleTagTransform(i,e,t.options)},remove:function(){var t;null===(t=e).parentNode||t.parentNode.removeChild(t)}}}},113(t){t.exports=function(t,e){if(e.styleSheet)e.styleSheet.cssText=t;else{for(;e.firstChild;)e.removeChild(e.firstChild);e.appendChild(document.createTextNode(t))}}}}]);