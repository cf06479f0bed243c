"use strict";(self.rspackChunknightingale_hub=self.rspackChunknightingale_hub||[]).push([[887],{418(t,e,n){n.r(e),n.d(e,{default:()=>I});var a=n(369),s=n(2),i=n(442),o=n(256);n(665);var r=n(660);function l(t,e){return p(d(t,6),e)}function c(t,e){return`${p(d(t,9),e)}/h`}function u(t){let e=Math.floor(t/60),n=Math.floor(e/60);return n>0?`${g(n)} h ${e%60} min`:e>0?`${e} min ${t%60} s`:`${t} s`}function h(t){let e=new Date(t),n=t=>String(t).padStart(2,"0");return`${n(e.getHours())}:${n(e.getMinutes())}`}function d(t,e){let n=t<0?"-":"",a=10**e,s=Math.floor(Math.abs(t)/a),i=String(Math.abs(t)%a).padStart(e,"0");return`${n}${g(s)}.${i.replace(/0+$/,"").padEnd(2,"0")}`}function p(t,e){return"USD"!==e?`${t} ${e??""}`.trim():t.startsWith("-")?`-$${t.slice(1)}`:`$${t}`}function g(t){return String(t).replace(/\B(?=(\d{3})+$)/g,",")}class f extends r.Widget{constructor(t,e){super(),this.model=t,this.button=document.createElement("button"),this.addClass("jp-nightingale-Bar"),this.button.type="button",this.button.addEventListener("click",e),this.node.append(this.button),t.changed.connect(this.update,this),this.update()}onUpdateRequest(){this.button.textContent=function(t){var e,n;let a,s,i=t.status?.instance;if(!t.status)return t.error?"Nightingale: no answer":"Nightingale …";if(!i)return"no instance";let o=[`cpu ${i.cpu}`];return"none"!==i.gpu&&o.push(`gpu ${i.gpu}`),"running"!==i.state&&o.push(i.state),null!==i.seconds&&o.push(u(i.seconds)),o.push(null===i.amount_micro?"cost unknown":(e=i.amount_micro,n=i.currency,a=e<0?"-":"",0===(s=Math.floor(Math.abs(e)/1e4))&&0!==e?`${a}<${p("0.01",n)}`:a+p(`${g(Math.floor(s/100))}.${String(s%100).padStart(2,"0")}`,n))),null!==i.nano_per_hour&&o.push(c(i.nano_per_hour,i.currency)),t.isOld&&o.push(`as of ${h(t.heardMs)}`),o.join(" \xb7 ")}(this.model),this.button.title="Nightingale: instance, cost, and what is logged",this.toggleClass("jp-mod-old",this.model.isOld)}}var m=n(904),w=n(500),y=n(401),b=n(901);class v extends Error{}async function $(t,e,n,a){let s,[i,o]=n.split("?"),r=b.URLExt.join(t.baseUrl,"nightingale","api",i),l=o?`${r}?${o}`:r,c={method:e,cache:"no-store"};"POST"===e&&(c.body=JSON.stringify(a??{}),c.headers={"Content-Type":"application/json"});try{s=await m.ServerConnection.makeRequest(l,c,t)}catch{throw new v("The instance does not answer.")}let u=await s.json().catch(()=>null);if(!s.ok||null===u)throw new v(u?.error?.message??`The instance answered ${s.status}.`);return u}class x{constructor(){this.settings=m.ServerConnection.makeSettings(),this.status=null,this.heardMs=0,this.error="",this.missed=0,this.changes=new y.Signal(this),this.lastNotice=null,this.poll=new w.Poll({name:"nightingale-hub:status",factory:()=>this.look(),frequency:{interval:2e3,backoff:!1,max:1e4},standby:"when-hidden"}),this.notices=new w.Poll({name:"nightingale-hub:notices",factory:()=>this.lookForNotices(),frequency:{interval:1e4,backoff:!0,max:6e4},standby:"never"})}dispose(){this.poll.dispose(),this.notices.dispose()}get changed(){return this.changes}get isOld(){return this.missed>=2}async refresh(){await this.poll.refresh()}async lookForNotices(){let t=this.lastNotice??0,e=await $(this.settings,"GET",`notices?after=${t}`),n=null===this.lastNotice;if(this.lastNotice=Math.max(t,...e.notices.map(t=>t.id)),!n)for(let t of e.notices.reverse()){let e="run"===t.kind?"info":"warning";s.Notification.emit(`${t.subject}: ${t.body}`,e,{autoClose:!1})}}async look(){try{this.status=await $(this.settings,"GET","status"),this.heardMs=Date.now(),this.error="",this.missed=0}catch(t){throw this.error=String(t.message),this.missed+=1,t}finally{this.changes.emit()}}}let S=["cpu","gpu","disk"];async function j(t,e){let n=null===e.amount_micro?"unknown":l(e.amount_micro,e.currency);return!!(await (0,s.showDialog)({title:`Stop ${e.id}?`,body:`Cost so far: ${n}. Kernels and terminals end at once, the files in your home stay, and the charge ends when the stop is accepted.`,buttons:[s.Dialog.cancelButton(),s.Dialog.warnButton({label:"Stop it"})],defaultButton:0})).button.accept&&M("Nothing was stopped",async()=>{await $(t.settings,"POST","stop")})}async function k(t){await M("Nothing was changed",async()=>{await $(t.settings,"POST","extend?for_s=3600"),s.Notification.success("It is not stopped as idle for an hour from now.",{autoClose:5e3})})}async function C(t){await M("Nothing was changed",async()=>{let e=await $(t.settings,"GET","sizes"),n=new T(t,e.sizes,e.currency);if(!(await (0,s.showDialog)({title:"Another size",body:n,buttons:[s.Dialog.cancelButton(),s.Dialog.okButton({label:"Resize it"})],defaultButton:0})).button.accept)return;let a=n.chosen;if(0===Object.keys(a).length)return;await $(t.settings,"POST","resize",a);let i=s.Notification.emit("Resizing …","in-progress",{autoClose:!1}),o=await _(t),r=o?.phase==="done";s.Notification.update({id:i,message:o?.outcome||"The resize goes on; the panel shows the size.",type:r?"success":"warning",autoClose:!!r&&5e3}),await t.refresh()})}class T extends r.Widget{constructor(t,e,n){for(let a of(super(),this.model=t,this.lists=new Map,this.outcome=document.createElement("p"),this.asked=0,this.addClass("jp-nightingale-Chooser"),S)){let t=document.createElement("label"),s=document.createElement("select");for(let t of e.filter(t=>t.resource===a))s.add(function(t,e){let n=t.nano_per_hour,a=null===n?"no price":c(n,e),s=t.refusal?`: ${t.refusal}`:"",i=new Option(`${t.size}: ${t.gives}, ${a}${s}`,t.size);return i.disabled=""!==t.refusal,t.is_current&&(i.dataset.current="",i.selected=!0),i}(t,n));s.addEventListener("change",()=>void this.plan()),t.append(a,s),this.node.append(t),this.lists.set(a,s)}this.outcome.setAttribute("role","status"),this.outcome.textContent="Choose another size: its price and what changes are shown here.",this.node.append(this.outcome)}get chosen(){let t={};for(let[e,n]of this.lists){let a=n.selectedOptions[0];a&&void 0===a.dataset.current&&(t[e]=a.value)}return t}async plan(){let t=++this.asked,e=new URLSearchParams(this.chosen).toString(),n="This is the size that it has.";if(e)try{let{plan:t}=await $(this.model.settings,"GET",`resize?${e}`),a=t.more_nano_per_hour,s=c(Math.abs(a),t.currency),i=`${a<0?"less":"more"} by ${s}`;n=`${c(t.then.nano_per_hour,t.currency)}, ${i}. Files stay; programs that run may be interrupted. If the new size cannot be had, the old one is kept.`}catch(t){n=String(t.message)}t===this.asked&&(this.outcome.textContent=n)}}async function _(t){let e=Date.now()+6e5;for(;Date.now()<e;){let e=await $(t.settings,"GET","resize").catch(()=>null);if(e?.last&&null!==e.last.ended_us)return e.last;await new Promise(t=>window.setTimeout(t,1e3))}return null}async function M(t,e){try{return await e(),!0}catch(e){return await (0,s.showErrorMessage)(t,String(e.message)),!1}}class N extends r.Widget{constructor(t){super(),this.model=t,this.note=B("p","jp-nightingale-note"),this.sections=B("div"),this.buttons=B("div","jp-nightingale-buttons"),this.does=[],this.isStopping=!1,this.addClass("jp-nightingale-Panel"),this.note.setAttribute("role","status"),this.addButton("Keep 1 h","",()=>k(t)),this.addButton("Resize…","",()=>C(t)),this.addButton("Stop…","jp-mod-warn",()=>this.askToStop()),this.node.append(this.note,this.sections,this.buttons),t.changed.connect(this.update,this),this.update()}onUpdateRequest(){var t,e,n;let a,s,i,{status:o}=this.model;this.note.textContent=this.describeAge(),this.note.hidden=""===this.note.textContent;let r=o?.instance??null;for(let e of this.does){e.disabled=this.isStopping||null===r||"stopping"===(t=r).state||"stopped"===t.state}o&&this.sections.replaceChildren(...((i=[E("Instance",(s=(e=o).instance)?(a=[["Size",(n=s).size],["State",!1===n.is_healthy?`${n.state}, does not answer`:n.state],["Where",`${n.cloud} ${n.region}`],["Id",n.id]],n.reason&&a.push(["Why it stops",n.reason]),a):[["State","none runs here"]])]).push(E("Cost",function(t){let e=t.instance,n="unknown for now",a=[];if(e){let t=e.nano_per_hour;a.push(["Rate",null===t?n:c(t,e.currency)]),a.push(["Time",null===e.seconds?n:u(e.seconds)]);let s=e.amount_micro;a.push(["So far",null===s?n:l(s,e.currency)])}let s=t.month_micro;return a.push(["This month",null===s?n:l(s,t.currency)]),a}(e))),i.push(function(t){let e=[],{audit:n,local:a}=t;n&&(e.push(["Files",n.files.toLocaleString("en")]),e.push(["Reads",n.reads.toLocaleString("en")]),e.push(["Bytes",n.bytes.toLocaleString("en")]));let s=E("What is logged",e);a?.data_refused&&s.append(B("p","jp-nightingale-warn",`No data: ${a.data_refused}`)),s.append(B("p","","Every read of a dataset is recorded: who, which file, which part, when, how long, and by which program. Your own files and what you type are not."));let i=B("ul");for(let e of t.datasets)i.append(B("li","",`${e.title} (${e.name})`));let o=B("a","","What was read");return o.href=`${z()}reads`,o.target="_blank",o.rel="noopener",s.append(i,o),s}(e)),e.missing.length>0&&i.push(E("Missing",e.missing.map(t=>["",t]))),i))}addButton(t,e,n){let a=B("button",`jp-Button jp-mod-styled ${e}`,t);a.type="button",a.addEventListener("click",()=>void n()),this.does.push(a),this.buttons.append(a)}describeAge(){if(!this.model.error)return this.model.status?"":"Asking …";let t=this.model.heardMs?` Figures as of ${h(this.model.heardMs)}.`:"";return`${this.model.error.replace(/\.?$/,".")}${t}`}async askToStop(){let t=this.model.status?.instance;t&&await j(this.model,t)&&(this.isStopping=!0,this.update(),window.location.assign(z()))}}function z(){let t=b.PageConfig.getOption("hubPrefix")||"/hub/";return`${t.replace(/hub\/$/,"")}services/console/`}function E(t,e){let n=B("section");n.append(B("h3","",t));let a=B("dl");for(let[t,n]of e)a.append(B("dt","",t),B("dd","",n));return n.append(a),n}function B(t,e="",n=""){let a=document.createElement(t);return a.className=e,a.textContent=n,a}let P="nightingale-hub:open",A=new o.LabIcon({name:"nightingale-hub:meter",svgstr:'<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><path class="jp-icon3" fill="#616161" d="M12 3a10 10 0 0 0-9 14.4h2.3A8 8 0 1 1 18.7 17.4H21A10 10 0 0 0 12 3zm5.2 4.7-4.6 5a2 2 0 1 0 1.3 1.2z"/></svg>'}),I={id:"nightingale-hub:plugin",description:"The instance, its cost, and what is logged.",autoStart:!0,optional:[a.ILabShell,i.IStatusBar,s.ICommandPalette],activate:(t,e,n,a)=>{let s=new x,i=new N(s);i.id="nightingale-hub-panel",i.title.icon=A,i.title.caption="Nightingale: instance, cost, what is logged",t.shell.add(i,"right",{rank:200,type:"Nightingale"}),t.commands.addCommand(P,{label:"Nightingale: Instance and Cost",describedBy:{args:{type:"object",properties:{}}},icon:A,execute:()=>t.shell.activateById(i.id)}),a?.addItem({command:P,category:"Nightingale"}),null!==e&&null!==n&&n.registerStatusItem("nightingale-hub:bar",{item:new f(s,()=>void t.commands.execute(P)),align:"left",rank:900,priority:1})}}},646(t,e,n){var a=n(601),s=n.n(a),i=n(314),o=(n.n(i))()(s());o.push([t.id,`.jp-nightingale-Bar {
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
`,""]),n.d(e,{},{A:o})},314(t){t.exports=function(t){var e=[];return e.toString=function(){return this.map(function(e){var n="",a=void 0!==e[5];return e[4]&&(n+="@supports (".concat(e[4],") {")),e[2]&&(n+="@media ".concat(e[2]," {")),a&&(n+="@layer".concat(e[5].length>0?" ".concat(e[5]):""," {")),n+=t(e),a&&(n+="}"),e[2]&&(n+="}"),e[4]&&(n+="}"),n}).join("")},e.i=function(t,n,a,s,i){"string"==typeof t&&(t=[[null,t,void 0]]);var o={};if(a)for(var r=0;r<this.length;r++){var l=this[r][0];null!=l&&(o[l]=!0)}for(var c=0;c<t.length;c++){var u=[].concat(t[c]);a&&o[u[0]]||(void 0!==i&&(void 0===u[5]||(u[1]="@layer".concat(u[5].length>0?" ".concat(u[5]):""," {").concat(u[1],"}")),u[5]=i),n&&(u[2]&&(u[1]="@media ".concat(u[2]," {").concat(u[1],"}")),u[2]=n),s&&(u[4]?(u[1]="@supports (".concat(u[4],") {").concat(u[1],"}"),u[4]=s):u[4]="".concat(s)),e.push(u))}},e}},601(t){t.exports=function(t){return t[1]}},665(t,e,n){n.r(e);var a=n(72),s=n.n(a),i=n(825),o=n.n(i),r=n(659),l=n.n(r),c=n(56),u=n.n(c),h=n(540),d=n.n(h),p=n(113),g=n.n(p),f=n(646),m={};m.styleTagTransform=g(),m.setAttributes=u(),m.insert=l().bind(null,"head"),m.domAPI=o(),m.insertStyleElement=d(),s()(f.A,m);let w=f.A&&f.A.locals?f.A.locals:void 0;n.d(e,{},{default:w})},72(t){var e=[];function n(t){for(var n=-1,a=0;a<e.length;a++)if(e[a].identifier===t){n=a;break}return n}function a(t,a){for(var s={},i=[],o=0;o<t.length;o++){var r=t[o],l=a.base?r[0]+a.base:r[0],c=s[l]||0,u="".concat(l," ").concat(c);s[l]=c+1;var h=n(u),d={css:r[1],media:r[2],sourceMap:r[3],supports:r[4],layer:r[5]};if(-1!==h)e[h].references++,e[h].updater(d);else{var p=function(t,e){var n=e.domAPI(e);return n.update(t),function(e){e?(e.css!==t.css||e.media!==t.media||e.sourceMap!==t.sourceMap||e.supports!==t.supports||e.layer!==t.layer)&&n.update(t=e):n.remove()}}(d,a);a.byIndex=o,e.splice(o,0,{identifier:u,updater:p,references:1})}i.push(u)}return i}t.exports=function(t,s){var i=a(t=t||[],s=s||{});return function(t){t=t||[];for(var o=0;o<i.length;o++){var r=n(i[o]);e[r].references--}for(var l=a(t,s),c=0;c<i.length;c++){var u=n(i[c]);0===e[u].references&&(e[u].updater(),e.splice(u,1))}i=l}}},659(t){var e={};t.exports=function(t,n){var a=function(t){if(void 0===e[t]){var n=document.querySelector(t);if(window.HTMLIFrameElement&&n instanceof window.HTMLIFrameElement)try{n=n.contentDocument.head}catch(t){n=null}e[t]=n}return e[t]}(t);if(!a)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");a.appendChild(n)}},540(t){t.exports=function(t){var e=document.createElement("style");return t.setAttributes(e,t.attributes),t.insert(e,t.options),e}},56(t,e,n){t.exports=function(t){var e=n.nc;e&&t.setAttribute("nonce",e)}},825(t){t.exports=function(t){if("u"<typeof document)return{update:function(){},remove:function(){}};var e=t.insertStyleElement(t);return{update:function(n){var a,s,i;a="",n.supports&&(a+="@supports (".concat(n.supports,") {")),n.media&&(a+="@media ".concat(n.media," {")),(s=void 0!==n.layer)&&(a+="@layer".concat(n.layer.length>0?" ".concat(n.layer):""," {")),a+=n.css,s&&(a+="}"),n.media&&(a+="}"),n.supports&&(a+="}"),(i=n.sourceMap)&&"u">typeof btoa&&(a+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(i))))," */")),t.styleTagTransform(a,e,t.options)},remove:function(){var t;null===(t=e).parentNode||t.parentNode.removeChild(t)}}}},113(t){t.exports=function(t,e){if(e.styleSheet)e.styleSheet.cssText=t;else{for(;e.firstChild;)e.removeChild(e.firstChild);e.appendChild(document.createTextNode(t))}}}}]);