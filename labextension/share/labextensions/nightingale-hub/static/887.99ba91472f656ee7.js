"use strict";(self.rspackChunknightingale_hub=self.rspackChunknightingale_hub||[]).push([[887],{418(t,e,n){n.r(e),n.d(e,{default:()=>P});var s=n(369),a=n(2),i=n(442),o=n(256);n(665);var r=n(660);function l(t){return`${h(t,9)}/h`}function u(t){let e=Math.floor(t/60),n=Math.floor(e/60);return n>0?`${d(n)} h ${e%60} min`:e>0?`${e} min ${t%60} s`:`${t} s`}function c(t){let e=new Date(t),n=t=>String(t).padStart(2,"0");return`${n(e.getHours())}:${n(e.getMinutes())}`}function h(t,e){let n=t<0?"-":"",s=10**e,a=Math.floor(Math.abs(t)/s),i=String(Math.abs(t)%s).padStart(e,"0");return`${n}$${d(a)}.${i.replace(/0+$/,"").padEnd(2,"0")}`}function d(t){return String(t).replace(/\B(?=(\d{3})+$)/g,",")}class p extends r.Widget{constructor(t,e){super(),this.model=t,this.button=document.createElement("button"),this.addClass("jp-nightingale-Bar"),this.button.type="button",this.button.addEventListener("click",e),this.node.append(this.button),t.changed.connect(this.update,this),this.update()}onUpdateRequest(){this.button.textContent=function(t){var e;let n,s,a=t.status?.instance;if(!t.status)return t.error?"Nightingale: no answer":"Nightingale …";if(!a)return"no instance";let i=[`cpu ${a.cpu}`];return"none"!==a.gpu&&i.push(`gpu ${a.gpu}`),"running"!==a.state&&i.push(a.state),null!==a.seconds&&i.push(u(a.seconds)),i.push(null===a.amount_micro_usd?"cost unknown":(n=(e=a.amount_micro_usd)<0?"-":"",0===(s=Math.floor(Math.abs(e)/1e4))&&0!==e?`${n}<$0.01`:`${n}$${d(Math.floor(s/100))}.${String(s%100).padStart(2,"0")}`)),i.push(l(a.nano_usd_per_hour)),t.isOld&&i.push(`as of ${c(t.heardMs)}`),i.join(" \xb7 ")}(this.model),this.button.title="Nightingale: instance, cost, and what is logged",this.toggleClass("jp-mod-old",this.model.isOld)}}var g=n(904),f=n(500),m=n(401),w=n(901);class b extends Error{}async function y(t,e,n,s){let a,[i,o]=n.split("?"),r=w.URLExt.join(t.baseUrl,"nightingale","api",i),l=o?`${r}?${o}`:r,u={method:e,cache:"no-store"};"POST"===e&&(u.body=JSON.stringify(s??{}),u.headers={"Content-Type":"application/json"});try{a=await g.ServerConnection.makeRequest(l,u,t)}catch{throw new b("The instance does not answer.")}let c=await a.json().catch(()=>null);if(!a.ok||null===c)throw new b(c?.error?.message??`The instance answered ${a.status}.`);return c}class v{constructor(){this.settings=g.ServerConnection.makeSettings(),this.status=null,this.heardMs=0,this.error="",this.missed=0,this.changes=new m.Signal(this),this.lastNotice=null,this.poll=new f.Poll({name:"nightingale-hub:status",factory:()=>this.look(),frequency:{interval:2e3,backoff:!1,max:1e4},standby:"when-hidden"}),this.notices=new f.Poll({name:"nightingale-hub:notices",factory:()=>this.lookForNotices(),frequency:{interval:1e4,backoff:!0,max:6e4},standby:"never"})}dispose(){this.poll.dispose(),this.notices.dispose()}get changed(){return this.changes}get isOld(){return this.missed>=2}async refresh(){await this.poll.refresh()}async lookForNotices(){let t=this.lastNotice??0,e=await y(this.settings,"GET",`notices?after=${t}`),n=null===this.lastNotice;if(this.lastNotice=Math.max(t,...e.notices.map(t=>t.id)),!n)for(let t of e.notices.reverse()){let e="run"===t.kind?"info":"warning";a.Notification.emit(`${t.subject}: ${t.body}`,e,{autoClose:!1})}}async look(){try{this.status=await y(this.settings,"GET","status"),this.heardMs=Date.now(),this.error="",this.missed=0}catch(t){throw this.error=String(t.message),this.missed+=1,t}finally{this.changes.emit()}}}let x=["cpu","gpu","disk"];async function $(t,e){let n=null===e.amount_micro_usd?"unknown":h(e.amount_micro_usd,6);return!!(await (0,a.showDialog)({title:`Stop ${e.id}?`,body:`Cost so far: ${n}. Kernels and terminals end at once, the files in your home stay, and the charge ends when the stop is accepted.`,buttons:[a.Dialog.cancelButton(),a.Dialog.warnButton({label:"Stop it"})],defaultButton:0})).button.accept&&C("Nothing was stopped",async()=>{await y(t.settings,"POST","stop")})}async function S(t){await C("Nothing was changed",async()=>{await y(t.settings,"POST","extend?for_s=3600"),a.Notification.success("It is not stopped as idle for an hour from now.",{autoClose:5e3})})}async function j(t){await C("Nothing was changed",async()=>{let{sizes:e}=await y(t.settings,"GET","sizes"),n=new _(t,e);if(!(await (0,a.showDialog)({title:"Another size",body:n,buttons:[a.Dialog.cancelButton(),a.Dialog.okButton({label:"Resize it"})],defaultButton:0})).button.accept)return;let s=n.chosen;if(0===Object.keys(s).length)return;await y(t.settings,"POST","resize",s);let i=a.Notification.emit("Resizing …","in-progress",{autoClose:!1}),o=await k(t),r=o?.phase==="done";a.Notification.update({id:i,message:o?.outcome||"The resize goes on; the panel shows the size.",type:r?"success":"warning",autoClose:!!r&&5e3}),await t.refresh()})}class _ extends r.Widget{constructor(t,e){for(let n of(super(),this.model=t,this.lists=new Map,this.outcome=document.createElement("p"),this.asked=0,this.addClass("jp-nightingale-Chooser"),x)){let t=document.createElement("label"),s=document.createElement("select");for(let t of e.filter(t=>t.resource===n))s.add(function(t){let e=null===t.nano_usd_per_hour?"no price":l(t.nano_usd_per_hour),n=t.refusal?`: ${t.refusal}`:"",s=new Option(`${t.size}: ${t.gives}, ${e}${n}`,t.size);return s.disabled=""!==t.refusal,t.is_current&&(s.dataset.current="",s.selected=!0),s}(t));s.addEventListener("change",()=>void this.plan()),t.append(n,s),this.node.append(t),this.lists.set(n,s)}this.outcome.setAttribute("role","status"),this.outcome.textContent="Choose another size: its price and what changes are shown here.",this.node.append(this.outcome)}get chosen(){let t={};for(let[e,n]of this.lists){let s=n.selectedOptions[0];s&&void 0===s.dataset.current&&(t[e]=s.value)}return t}async plan(){let t=++this.asked,e=new URLSearchParams(this.chosen).toString(),n="This is the size that it has.";if(e)try{let{plan:t}=await y(this.model.settings,"GET",`resize?${e}`),[s,a]=[t.now.nano_usd_per_hour,t.then.nano_usd_per_hour],i=`${a<s?"less":"more"} by ${l(Math.abs(a-s))}`;n=`${l(a)}, ${i}. Files stay; programs that run may be interrupted. If the new size cannot be had, the old one is kept.`}catch(t){n=String(t.message)}t===this.asked&&(this.outcome.textContent=n)}}async function k(t){let e=Date.now()+6e5;for(;Date.now()<e;){let e=await y(t.settings,"GET","resize").catch(()=>null);if(e?.last&&null!==e.last.ended_us)return e.last;await new Promise(t=>window.setTimeout(t,1e3))}return null}async function C(t,e){try{return await e(),!0}catch(e){return await (0,a.showErrorMessage)(t,String(e.message)),!1}}class T extends r.Widget{constructor(t){super(),this.model=t,this.note=E("p","jp-nightingale-note"),this.sections=E("div"),this.buttons=E("div","jp-nightingale-buttons"),this.does=[],this.isStopping=!1,this.addClass("jp-nightingale-Panel"),this.note.setAttribute("role","status"),this.addButton("Keep 1 h","",()=>S(t)),this.addButton("Resize…","",()=>j(t)),this.addButton("Stop…","jp-mod-warn",()=>this.askToStop()),this.node.append(this.note,this.sections,this.buttons),t.changed.connect(this.update,this),this.update()}onUpdateRequest(){var t,e,n;let s,a,i,{status:o}=this.model;this.note.textContent=this.describeAge(),this.note.hidden=""===this.note.textContent;let r=o?.instance??null;for(let e of this.does){e.disabled=this.isStopping||null===r||"stopping"===(t=r).state||"stopped"===t.state}o&&this.sections.replaceChildren(...((i=[N("Instance",(a=(e=o).instance)?(s=[["Size",(n=a).size],["State",!1===n.is_healthy?`${n.state}, does not answer`:n.state],["Where",`${n.cloud} ${n.region}`],["Id",n.id]],n.reason&&s.push(["Why it stops",n.reason]),s):[["State","none runs here"]])]).push(N("Cost",function(t){let e=t.instance,n="unknown for now",s=[];if(e){s.push(["Rate",l(e.nano_usd_per_hour)]),s.push(["Time",null===e.seconds?n:u(e.seconds)]);let t=e.amount_micro_usd;s.push(["So far",null===t?n:h(t,6)])}let a=t.month_micro_usd;return s.push(["This month",null===a?n:h(a,6)]),s}(e))),i.push(function(t){let e=[],{audit:n,local:s}=t;n&&(e.push(["Files",n.files.toLocaleString("en")]),e.push(["Reads",n.reads.toLocaleString("en")]),e.push(["Bytes",n.bytes.toLocaleString("en")]));let a=N("What is logged",e);s?.data_refused&&a.append(E("p","jp-nightingale-warn",`No data: ${s.data_refused}`)),a.append(E("p","","Every read of a dataset is recorded: who, which file, which part, when, how long, and by which program. Your own files and what you type are not."));let i=E("ul");for(let e of t.datasets)i.append(E("li","",`${e.title} (${e.name})`));let o=E("a","","What was read");return o.href=`${M()}reads`,o.target="_blank",o.rel="noopener",a.append(i,o),a}(e)),e.missing.length>0&&i.push(N("Missing",e.missing.map(t=>["",t]))),i))}addButton(t,e,n){let s=E("button",`jp-Button jp-mod-styled ${e}`,t);s.type="button",s.addEventListener("click",()=>void n()),this.does.push(s),this.buttons.append(s)}describeAge(){if(!this.model.error)return this.model.status?"":"Asking …";let t=this.model.heardMs?` Figures as of ${c(this.model.heardMs)}.`:"";return`${this.model.error.replace(/\.?$/,".")}${t}`}async askToStop(){let t=this.model.status?.instance;t&&await $(this.model,t)&&(this.isStopping=!0,this.update(),window.location.assign(M()))}}function M(){let t=w.PageConfig.getOption("hubPrefix")||"/hub/";return`${t.replace(/hub\/$/,"")}services/console/`}function N(t,e){let n=E("section");n.append(E("h3","",t));let s=E("dl");for(let[t,n]of e)s.append(E("dt","",t),E("dd","",n));return n.append(s),n}function E(t,e="",n=""){let s=document.createElement(t);return s.className=e,s.textContent=n,s}let z="nightingale-hub:open",B=new o.LabIcon({name:"nightingale-hub:meter",svgstr:'<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><path class="jp-icon3" fill="#616161" d="M12 3a10 10 0 0 0-9 14.4h2.3A8 8 0 1 1 18.7 17.4H21A10 10 0 0 0 12 3zm5.2 4.7-4.6 5a2 2 0 1 0 1.3 1.2z"/></svg>'}),P={id:"nightingale-hub:plugin",description:"The instance, its cost, and what is logged.",autoStart:!0,optional:[s.ILabShell,i.IStatusBar,a.ICommandPalette],activate:(t,e,n,s)=>{let a=new v,i=new T(a);i.id="nightingale-hub-panel",i.title.icon=B,i.title.caption="Nightingale: instance, cost, what is logged",t.shell.add(i,"right",{rank:200,type:"Nightingale"}),t.commands.addCommand(z,{label:"Nightingale: Instance and Cost",describedBy:{args:{type:"object",properties:{}}},icon:B,execute:()=>t.shell.activateById(i.id)}),s?.addItem({command:z,category:"Nightingale"}),null!==e&&null!==n&&n.registerStatusItem("nightingale-hub:bar",{item:new p(a,()=>void t.commands.execute(z)),align:"left",rank:900,priority:1})}}},646(t,e,n){var s=n(601),a=n.n(s),i=n(314),o=(n.n(i))()(a());o.push([t.id,`.jp-nightingale-Bar {
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
`,""]),n.d(e,{},{A:o})},314(t){t.exports=function(t){var e=[];return e.toString=function(){return this.map(function(e){var n="",s=void 0!==e[5];return e[4]&&(n+="@supports (".concat(e[4],") {")),e[2]&&(n+="@media ".concat(e[2]," {")),s&&(n+="@layer".concat(e[5].length>0?" ".concat(e[5]):""," {")),n+=t(e),s&&(n+="}"),e[2]&&(n+="}"),e[4]&&(n+="}"),n}).join("")},e.i=function(t,n,s,a,i){"string"==typeof t&&(t=[[null,t,void 0]]);var o={};if(s)for(var r=0;r<this.length;r++){var l=this[r][0];null!=l&&(o[l]=!0)}for(var u=0;u<t.length;u++){var c=[].concat(t[u]);s&&o[c[0]]||(void 0!==i&&(void 0===c[5]||(c[1]="@layer".concat(c[5].length>0?" ".concat(c[5]):""," {").concat(c[1],"}")),c[5]=i),n&&(c[2]&&(c[1]="@media ".concat(c[2]," {").concat(c[1],"}")),c[2]=n),a&&(c[4]?(c[1]="@supports (".concat(c[4],") {").concat(c[1],"}"),c[4]=a):c[4]="".concat(a)),e.push(c))}},e}},601(t){t.exports=function(t){return t[1]}},665(t,e,n){n.r(e);var s=n(72),a=n.n(s),i=n(825),o=n.n(i),r=n(659),l=n.n(r),u=n(56),c=n.n(u),h=n(540),d=n.n(h),p=n(113),g=n.n(p),f=n(646),m={};m.styleTagTransform=g(),m.setAttributes=c(),m.insert=l().bind(null,"head"),m.domAPI=o(),m.insertStyleElement=d(),a()(f.A,m);let w=f.A&&f.A.locals?f.A.locals:void 0;n.d(e,{},{default:w})},72(t){var e=[];function n(t){for(var n=-1,s=0;s<e.length;s++)if(e[s].identifier===t){n=s;break}return n}function s(t,s){for(var a={},i=[],o=0;o<t.length;o++){var r=t[o],l=s.base?r[0]+s.base:r[0],u=a[l]||0,c="".concat(l," ").concat(u);a[l]=u+1;var h=n(c),d={css:r[1],media:r[2],sourceMap:r[3],supports:r[4],layer:r[5]};if(-1!==h)e[h].references++,e[h].updater(d);else{var p=function(t,e){var n=e.domAPI(e);return n.update(t),function(e){e?(e.css!==t.css||e.media!==t.media||e.sourceMap!==t.sourceMap||e.supports!==t.supports||e.layer!==t.layer)&&n.update(t=e):n.remove()}}(d,s);s.byIndex=o,e.splice(o,0,{identifier:c,updater:p,references:1})}i.push(c)}return i}t.exports=function(t,a){var i=s(t=t||[],a=a||{});return function(t){t=t||[];for(var o=0;o<i.length;o++){var r=n(i[o]);e[r].references--}for(var l=s(t,a),u=0;u<i.length;u++){var c=n(i[u]);0===e[c].references&&(e[c].updater(),e.splice(c,1))}i=l}}},659(t){var e={};t.exports=function(t,n){var s=function(t){if(void 0===e[t]){var n=document.querySelector(t);if(window.HTMLIFrameElement&&n instanceof window.HTMLIFrameElement)try{n=n.contentDocument.head}catch(t){n=null}e[t]=n}return e[t]}(t);if(!s)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");s.appendChild(n)}},540(t){t.exports=function(t){var e=document.createElement("style");return t.setAttributes(e,t.attributes),t.insert(e,t.options),e}},56(t,e,n){t.exports=function(t){var e=n.nc;e&&t.setAttribute("nonce",e)}},825(t){t.exports=function(t){if("u"<typeof document)return{update:function(){},remove:function(){}};var e=t.insertStyleElement(t);return{update:function(n){var s,a,i;s="",n.supports&&(s+="@supports (".concat(n.supports,") {")),n.media&&(s+="@media ".concat(n.media," {")),(a=void 0!==n.layer)&&(s+="@layer".concat(n.layer.length>0?" ".concat(n.layer):""," {")),s+=n.css,a&&(s+="}"),n.media&&(s+="}"),n.supports&&(s+="}"),(i=n.sourceMap)&&"u">typeof btoa&&(s+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(i))))," */")),t.styleTagTransform(s,e,t.options)},remove:function(){var t;null===(t=e).parentNode||t.parentNode.removeChild(t)}}}},113(t){t.exports=function(t,e){if(e.styleSheet)e.styleSheet.cssText=t;else{for(;e.firstChild;)e.removeChild(e.firstChild);e.appendChild(document.createTextNode(t))}}}}]);