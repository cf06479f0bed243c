"use strict";(self.rspackChunknightingale_hub=self.rspackChunknightingale_hub||[]).push([[266],{646(n,e,t){var r=t(601),a=t.n(r),o=t(314),i=(t.n(o))()(a());i.push([n.id,`.jp-nightingale-Bar {
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
`,""]),t.d(e,{},{A:i})},314(n){n.exports=function(n){var e=[];return e.toString=function(){return this.map(function(e){var t="",r=void 0!==e[5];return e[4]&&(t+="@supports (".concat(e[4],") {")),e[2]&&(t+="@media ".concat(e[2]," {")),r&&(t+="@layer".concat(e[5].length>0?" ".concat(e[5]):""," {")),t+=n(e),r&&(t+="}"),e[2]&&(t+="}"),e[4]&&(t+="}"),t}).join("")},e.i=function(n,t,r,a,o){"string"==typeof n&&(n=[[null,n,void 0]]);var i={};if(r)for(var l=0;l<this.length;l++){var p=this[l][0];null!=p&&(i[p]=!0)}for(var c=0;c<n.length;c++){var s=[].concat(n[c]);r&&i[s[0]]||(void 0!==o&&(void 0===s[5]||(s[1]="@layer".concat(s[5].length>0?" ".concat(s[5]):""," {").concat(s[1],"}")),s[5]=o),t&&(s[2]&&(s[1]="@media ".concat(s[2]," {").concat(s[1],"}")),s[2]=t),a&&(s[4]?(s[1]="@supports (".concat(s[4],") {").concat(s[1],"}"),s[4]=a):s[4]="".concat(a)),e.push(s))}},e}},601(n){n.exports=function(n){return n[1]}},665(n,e,t){t.r(e);var r=t(72),a=t.n(r),o=t(825),i=t.n(o),l=t(659),p=t.n(l),c=t(56),s=t.n(c),u=t(540),d=t.n(u),g=t(113),f=t.n(g),h=t(646),v={};v.styleTagTransform=f(),v.setAttributes=s(),v.insert=p().bind(null,"head"),v.domAPI=i(),v.insertStyleElement=d(),a()(h.A,v);let m=h.A&&h.A.locals?h.A.locals:void 0;t.d(e,{},{default:m})},72(n){var e=[];function t(n){for(var t=-1,r=0;r<e.length;r++)if(e[r].identifier===n){t=r;break}return t}function r(n,r){for(var a={},o=[],i=0;i<n.length;i++){var l=n[i],p=r.base?l[0]+r.base:l[0],c=a[p]||0,s="".concat(p," ").concat(c);a[p]=c+1;var u=t(s),d={css:l[1],media:l[2],sourceMap:l[3],supports:l[4],layer:l[5]};if(-1!==u)e[u].references++,e[u].updater(d);else{var g=function(n,e){var t=e.domAPI(e);return t.update(n),function(e){e?(e.css!==n.css||e.media!==n.media||e.sourceMap!==n.sourceMap||e.supports!==n.supports||e.layer!==n.layer)&&t.update(n=e):t.remove()}}(d,r);r.byIndex=i,e.splice(i,0,{identifier:s,updater:g,references:1})}o.push(s)}return o}n.exports=function(n,a){var o=r(n=n||[],a=a||{});return function(n){n=n||[];for(var i=0;i<o.length;i++){var l=t(o[i]);e[l].references--}for(var p=r(n,a),c=0;c<o.length;c++){var s=t(o[c]);0===e[s].references&&(e[s].updater(),e.splice(s,1))}o=p}}},659(n){var e={};n.exports=function(n,t){var r=function(n){if(void 0===e[n]){var t=document.querySelector(n);if(window.HTMLIFrameElement&&t instanceof window.HTMLIFrameElement)try{t=t.contentDocument.head}catch(n){t=null}e[n]=t}return e[n]}(n);if(!r)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");r.appendChild(t)}},540(n){n.exports=function(n){var e=document.createElement("style");return n.setAttributes(e,n.attributes),n.insert(e,n.options),e}},56(n,e,t){n.exports=function(n){var e=t.nc;e&&n.setAttribute("nonce",e)}},825(n){n.exports=function(n){if("u"<typeof document)return{update:function(){},remove:function(){}};var e=n.insertStyleElement(n);return{update:function(t){var r,a,o;r="",t.supports&&(r+="@supports (".concat(t.supports,") {")),t.media&&(r+="@media ".concat(t.media," {")),(a=void 0!==t.layer)&&(r+="@layer".concat(t.layer.length>0?" ".concat(t.layer):""," {")),r+=t.css,a&&(r+="}"),t.media&&(r+="}"),t.supports&&(r+="}"),(o=t.sourceMap)&&"u">typeof btoa&&(r+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(o))))," */")),n.styleTagTransform(r,e,n.options)},remove:function(){var n;null===(n=e).parentNode||n.parentNode.removeChild(n)}}}},113(n){n.exports=function(n,e){if(e.styleSheet)e.styleSheet.cssText=n;else{for(;e.firstChild;)e.removeChild(e.firstChild);e.appendChild(document.createTextNode(n))}}}}]);