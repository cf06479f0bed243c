"use strict";(self.rspackChunknightingale_hub=self.rspackChunknightingale_hub||[]).push([[307],{838(t,e,n){n.r(e),n.d(e,{default:()=>M});var a=n(369),i=n(2),s=n(442),o=n(256);n(665);var r=n(660);function l(t){return`${c(t,9)}/h`}function u(t){let e=Math.floor(t/60),n=Math.floor(e/60);return n>0?`${d(n)} h ${e%60} min`:e>0?`${e} min ${t%60} s`:`${t} s`}function h(t){let e=new Date(t),n=t=>String(t).padStart(2,"0");return`${n(e.getHours())}:${n(e.getMinutes())}`}function c(t,e){let n=t<0?"-":"",a=10**e,i=Math.floor(Math.abs(t)/a),s=String(Math.abs(t)%a).padStart(e,"0");return`${n}$${d(i)}.${s.replace(/0+$/,"").padEnd(2,"0")}`}function d(t){return String(t).replace(/\B(?=(\d{3})+$)/g,",")}class p extends r.Widget{constructor(t,e){super(),this.model=t,this.button=document.createElement("button"),this.addClass("jp-nightingale-Bar"),this.button.type="button",this.button.addEventListener("click",e),this.node.append(this.button),t.changed.connect(this.update,this),this.update()}onUpdateRequest(){this.button.textContent=function(t){var e;let n,a,i=t.status?.instance;if(!t.status)return t.error?"Nightingale: no answer":"Nightingale …";if(!i)return"no instance";let s=[`cpu ${i.cpu}`];return"none"!==i.gpu&&s.push(`gpu ${i.gpu}`),"running"!==i.state&&s.push(i.state),null!==i.seconds&&s.push(u(i.seconds)),s.push(null===i.amount_micro_usd?"cost unknown":(n=(e=i.amount_micro_usd)<0?"-":"",0===(a=Math.floor(Math.abs(e)/1e4))&&0!==e?`${n}<$0.01`:`${n}$${d(Math.floor(a/100))}.${String(a%100).padStart(2,"0")}`)),s.push(l(i.nano_usd_per_hour)),t.isOld&&s.push(`as of ${h(t.heardMs)}`),s.join(" \xb7 ")}(this.model),this.button.title="Nightingale: instance, cost, and what is logged",this.toggleClass("jp-mod-old",this.model.isOld)}}var g=n(904),f=n(500),m=n(401),v=n(901);class b extends Error{}async function w(t,e,n,a){let i,s=v.URLExt.join(t.baseUrl,"nightingale","api",n),o={method:e,cache:"no-store"};"POST"===e&&(o.body=JSON.stringify(a??{}),o.headers={"Content-Type":"application/json"});try{i=await g.ServerConnection.makeRequest(s,o,t)}catch{throw new b("The instance does not answer.")}let r=await i.json().catch(()=>null);if(!i.ok||null===r)throw new b(r?.error?.message??`The instance answered ${i.status}.`);return r}class y{constructor(){this.settings=g.ServerConnection.makeSettings(),this.status=null,this.heardMs=0,this.error="",this.missed=0,this.changes=new m.Signal(this),this.poll=new f.Poll({name:"nightingale-hub:status",factory:()=>this.look(),frequency:{interval:2e3,backoff:!0,max:1e4},standby:"when-hidden"})}get changed(){return this.changes}get isOld(){return this.missed>=2}async refresh(){await this.poll.refresh()}async look(){try{this.status=await w(this.settings,"GET","status"),this.heardMs=Date.now(),this.error="",this.missed=0}catch(t){throw this.error=String(t.message),this.missed+=1,t}finally{this.changes.emit()}}}class x extends r.Widget{constructor(t){super(),this.model=t,this.note=$("p","jp-nightingale-note"),this.sections=$("div"),this.stop=$("button","jp-Button jp-mod-styled jp-mod-warn","Stop…"),this.isStopping=!1,this.addClass("jp-nightingale-Panel"),this.note.setAttribute("role","status"),this.stop.type="button",this.stop.addEventListener("click",()=>void this.askToStop()),this.node.append(this.note,this.sections,this.stop),t.changed.connect(this.update,this),this.update()}onUpdateRequest(){var t,e,n;let a,i,s,{status:o}=this.model;this.note.textContent=this.describeAge(),this.note.hidden=""===this.note.textContent;let r=o?.instance??null;this.stop.disabled=this.isStopping||null===r||"stopping"===(t=r).state||"stopped"===t.state,o&&this.sections.replaceChildren(...((s=[j("Instance",(i=(e=o).instance)?(a=[["Size",(n=i).size],["State",!1===n.is_healthy?`${n.state}, does not answer`:n.state],["Where",`${n.cloud} ${n.region}`],["Id",n.id]],n.reason&&a.push(["Why it stops",n.reason]),a):[["State","none runs here"]])]).push(j("Cost",function(t){let e=t.instance,n="unknown for now",a=[];if(e){a.push(["Rate",l(e.nano_usd_per_hour)]),a.push(["Time",null===e.seconds?n:u(e.seconds)]);let t=e.amount_micro_usd;a.push(["So far",null===t?n:c(t,6)])}let i=t.month_micro_usd;return a.push(["This month",null===i?n:c(i,6)]),a}(e))),s.push(function(t){let e=[],{audit:n,local:a}=t;n&&(e.push(["Files",n.files.toLocaleString("en")]),e.push(["Reads",n.reads.toLocaleString("en")]),e.push(["Bytes",n.bytes.toLocaleString("en")]));let i=j("What is logged",e);a?.data_refused&&i.append($("p","jp-nightingale-warn",`No data: ${a.data_refused}`)),i.append($("p","","Every read of a dataset is recorded: who, which file, which part, when, how long, and by which program. Your own files and what you type are not."));let s=$("ul");for(let e of t.datasets)s.append($("li","",`${e.title} (${e.name})`));let o=$("a","","What was read");return o.href=`${S()}reads`,o.target="_blank",o.rel="noopener",i.append(s,o),i}(e)),e.missing.length>0&&s.push(j("Missing",e.missing.map(t=>["",t]))),s))}describeAge(){if(!this.model.error)return this.model.status?"":"Asking …";let t=this.model.heardMs?` Figures as of ${h(this.model.heardMs)}.`:"";return`${this.model.error.replace(/\.?$/,".")}${t}`}async askToStop(){let t=this.model.status?.instance;if(!t)return;let e=null===t.amount_micro_usd?"unknown":c(t.amount_micro_usd,6);if((await (0,i.showDialog)({title:`Stop ${t.id}?`,body:`Cost so far: ${e}. Kernels and terminals end at once, the files in your home stay, and the charge ends when the stop is accepted.`,buttons:[i.Dialog.cancelButton(),i.Dialog.warnButton({label:"Stop it"})],defaultButton:0})).button.accept){this.isStopping=!0,this.update();try{await w(this.model.settings,"POST","stop")}catch(t){this.isStopping=!1,this.update(),await (0,i.showErrorMessage)("Nothing was stopped",String(t.message));return}window.location.assign(S())}}}function S(){let t=v.PageConfig.getOption("hubPrefix")||"/hub/";return`${t.replace(/hub\/$/,"")}services/console/`}function j(t,e){let n=$("section");n.append($("h3","",t));let a=$("dl");for(let[t,n]of e)a.append($("dt","",t),$("dd","",n));return n.append(a),n}function $(t,e="",n=""){let a=document.createElement(t);return a.className=e,a.textContent=n,a}let k="nightingale-hub:open",C=new o.LabIcon({name:"nightingale-hub:meter",svgstr:'<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><path class="jp-icon3" fill="#616161" d="M12 3a10 10 0 0 0-9 14.4h2.3A8 8 0 1 1 18.7 17.4H21A10 10 0 0 0 12 3zm5.2 4.7-4.6 5a2 2 0 1 0 1.3 1.2z"/></svg>'}),M={id:"nightingale-hub:plugin",description:"The instance, its cost, and what is logged.",autoStart:!0,optional:[a.ILabShell,s.IStatusBar,i.ICommandPalette],activate:(t,e,n,a)=>{let i=new y,s=new x(i);s.id="nightingale-hub-panel",s.title.icon=C,s.title.caption="Nightingale: instance, cost, what is logged",t.shell.add(s,"right",{rank:200,type:"Nightingale"}),t.commands.addCommand(k,{label:"Nightingale: Instance and Cost",describedBy:{args:{type:"object",properties:{}}},icon:C,execute:()=>t.shell.activateById(s.id)}),a?.addItem({command:k,category:"Nightingale"}),null!==e&&null!==n&&n.registerStatusItem("nightingale-hub:bar",{item:new p(i,()=>void t.commands.execute(k)),align:"left",rank:900,priority:1})}}},646(t,e,n){var a=n(601),i=n.n(a),s=n(314),o=(n.n(s))()(i());o.push([t.id,`.jp-nightingale-Bar {
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

.jp-nightingale-Panel > button {
  margin-top: 16px;
}

.jp-nightingale-note,
.jp-nightingale-warn {
  border-left: 4px solid var(--jp-warn-color1);
  padding: 2px 8px;
  background: var(--jp-layout-color2);
}
`,""]),n.d(e,{},{A:o})},314(t){t.exports=function(t){var e=[];return e.toString=function(){return this.map(function(e){var n="",a=void 0!==e[5];return e[4]&&(n+="@supports (".concat(e[4],") {")),e[2]&&(n+="@media ".concat(e[2]," {")),a&&(n+="@layer".concat(e[5].length>0?" ".concat(e[5]):""," {")),n+=t(e),a&&(n+="}"),e[2]&&(n+="}"),e[4]&&(n+="}"),n}).join("")},e.i=function(t,n,a,i,s){"string"==typeof t&&(t=[[null,t,void 0]]);var o={};if(a)for(var r=0;r<this.length;r++){var l=this[r][0];null!=l&&(o[l]=!0)}for(var u=0;u<t.length;u++){var h=[].concat(t[u]);a&&o[h[0]]||(void 0!==s&&(void 0===h[5]||(h[1]="@layer".concat(h[5].length>0?" ".concat(h[5]):""," {").concat(h[1],"}")),h[5]=s),n&&(h[2]&&(h[1]="@media ".concat(h[2]," {").concat(h[1],"}")),h[2]=n),i&&(h[4]?(h[1]="@supports (".concat(h[4],") {").concat(h[1],"}"),h[4]=i):h[4]="".concat(i)),e.push(h))}},e}},601(t){t.exports=function(t){return t[1]}},665(t,e,n){n.r(e);var a=n(72),i=n.n(a),s=n(825),o=n.n(s),r=n(659),l=n.n(r),u=n(56),h=n.n(u),c=n(540),d=n.n(c),p=n(113),g=n.n(p),f=n(646),m={};m.styleTagTransform=g(),m.setAttributes=h(),m.insert=l().bind(null,"head"),m.domAPI=o(),m.insertStyleElement=d(),i()(f.A,m);let v=f.A&&f.A.locals?f.A.locals:void 0;n.d(e,{},{default:v})},72(t){var e=[];function n(t){for(var n=-1,a=0;a<e.length;a++)if(e[a].identifier===t){n=a;break}return n}function a(t,a){for(var i={},s=[],o=0;o<t.length;o++){var r=t[o],l=a.base?r[0]+a.base:r[0],u=i[l]||0,h="".concat(l," ").concat(u);i[l]=u+1;var c=n(h),d={css:r[1],media:r[2],sourceMap:r[3],supports:r[4],layer:r[5]};if(-1!==c)e[c].references++,e[c].updater(d);else{var p=function(t,e){var n=e.domAPI(e);return n.update(t),function(e){e?(e.css!==t.css||e.media!==t.media||e.sourceMap!==t.sourceMap||e.supports!==t.supports||e.layer!==t.layer)&&n.update(t=e):n.remove()}}(d,a);a.byIndex=o,e.splice(o,0,{identifier:h,updater:p,references:1})}s.push(h)}return s}t.exports=function(t,i){var s=a(t=t||[],i=i||{});return function(t){t=t||[];for(var o=0;o<s.length;o++){var r=n(s[o]);e[r].references--}for(var l=a(t,i),u=0;u<s.length;u++){var h=n(s[u]);0===e[h].references&&(e[h].updater(),e.splice(h,1))}s=l}}},659(t){var e={};t.exports=function(t,n){var a=function(t){if(void 0===e[t]){var n=document.querySelector(t);if(window.HTMLIFrameElement&&n instanceof window.HTMLIFrameElement)try{n=n.contentDocument.head}catch(t){n=null}e[t]=n}return e[t]}(t);if(!a)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");a.appendChild(n)}},540(t){t.exports=function(t){var e=document.createElement("style");return t.setAttributes(e,t.attributes),t.insert(e,t.options),e}},56(t,e,n){t.exports=function(t){var e=n.nc;e&&t.setAttribute("nonce",e)}},825(t){t.exports=function(t){if("u"<typeof document)return{update:function(){},remove:function(){}};var e=t.insertStyleElement(t);return{update:function(n){var a,i,s;a="",n.supports&&(a+="@supports (".concat(n.supports,") {")),n.media&&(a+="@media ".concat(n.media," {")),(i=void 0!==n.layer)&&(a+="@layer".concat(n.layer.length>0?" ".concat(n.layer):""," {")),a+=n.css,i&&(a+="}"),n.media&&(a+="}"),n.supports&&(a+="}"),(s=n.sourceMap)&&"u">typeof btoa&&(a+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(s))))," */")),t.styleTagTransform(a,e,t.options)},remove:function(){var t;null===(t=e).parentNode||t.parentNode.removeChild(t)}}}},113(t){t.exports=function(t,e){if(e.styleSheet)e.styleSheet.cssText=t;else{for(;e.firstChild;)e.removeChild(e.firstChild);e.appendChild(document.createTextNode(t))}}}}]);