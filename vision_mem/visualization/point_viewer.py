"""Points to be turned by hand in a page: WebGL of the browser, everything in one file."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_POINTS = 300_000
"""Points of a page, about 6 MB; of more, some are left out evenly."""


@dataclass(frozen=True)
class ViewedLine:
    """A line in the picture.

    Attributes:
        name: what is written at its end.
        points: ``(n, 3)`` metres.
        colour: RGB, each in [0, 1].
    """

    name: str
    points: NDArray[np.float64]
    colour: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class ViewedScene:
    """What is to be seen.

    Attributes:
        points: ``(N, 3)`` metres.
        normals: ``(N, 3)``; zero where they are not known.
        colours: ``(N, 3)`` uint8 RGB.
        size: metres that a point covers.
        up: ``(3,)`` of length 1.
        eye, target: ``(3,)``: where one looks from and to, at first.
        lines: paths of the camera and of things.
    """

    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    colours: NDArray[np.uint8]
    size: float
    up: ArrayLike
    eye: ArrayLike
    target: ArrayLike
    lines: Sequence[ViewedLine] = field(default_factory=tuple)


def viewer_html(scene: ViewedScene, picture: str) -> str:
    """A piece of a page: a canvas, its points and what draws them; nothing is fetched.

    Args:
        scene: what.
        picture: name of a picture that is shown where the browser has no WebGL.
    """
    count = len(scene.points)
    kept = np.arange(count)
    if count > MOST_POINTS:
        kept = np.sort(np.random.default_rng(0).choice(count, MOST_POINTS, replace=False))
    points = np.asarray(scene.points, np.float64)[kept].reshape(-1, 3)
    low = points.min(axis=0) if len(points) else np.zeros(3)
    span = float((points.max(axis=0) - low).max()) if len(points) else 1.0
    whole = np.rint((points - low) / max(span, 1e-6) * 65535).astype("<u2")
    normals = np.rint(np.clip(np.asarray(scene.normals)[kept], -1, 1) * 127).astype(np.int8)
    # Points left out are made up for by larger ones.
    size = scene.size * max(count / MOST_POINTS, 1.0) ** 0.5
    about = {
        "n": len(points), "low": low.tolist(), "span": max(span, 1e-6), "size": size,
        "up": _numbers(scene.up), "eye": _numbers(scene.eye), "target": _numbers(scene.target),
        "lines": [
            {"name": line.name, "colour": list(line.colour),
             "points": np.round(np.asarray(line.points, np.float64), 4).ravel().tolist()}
            for line in scene.lines
        ],
    }  # fmt: skip
    parts = {"p": whole, "q": normals, "c": np.asarray(scene.colours, np.uint8)[kept]}
    held = {name: base64.b64encode(part.tobytes()).decode() for name, part in parts.items()}
    # "<" cannot close the script, whatever names say.
    data = json.dumps(about | held, separators=(",", ":")).replace("<", "\\u003c")
    return _PAGE.replace("@PICTURE@", picture).replace("@DATA@", data)


def _numbers(vector: ArrayLike) -> list[float]:
    return [round(float(each), 5) for each in np.asarray(vector, np.float64)]


_PAGE = """
<div class=viewer id=viewer><canvas id=scene tabindex=0
 aria-label="The scene as points; drag to turn it"></canvas><div id=names></div>
<div class=bar><button data-view=first>first view</button>
<button data-view=above>from above</button>
<button data-view=path>along the path</button>
<label><input type=checkbox id=through checked> look through walls</label>
<label>points <input type=range id=size min=5 max=40 value=13></label>
<label><input type=checkbox id=lines checked> paths</label>
<span class=hint>drag: turn; right button or shift: move; wheel: nearer</span></div></div>
<noscript><img src="@PICTURE@" alt="the scene"></noscript>
<script>
(()=>{"use strict";
const D=@DATA@,box=document.getElementById("viewer"),cv=document.getElementById("scene");
const gl=cv.getContext("webgl",{antialias:true,preserveDrawingBuffer:true});
if(!gl){box.innerHTML="<p>This browser has no WebGL; here is a picture.</p>"+
 "<img src='@PICTURE@' alt='the scene'>";return}
const bytes=s=>{const b=atob(s),a=new Uint8Array(b.length);
 for(let i=0;i<b.length;i++)a[i]=b.charCodeAt(i);return a};
const compile=(kind,text)=>{const s=gl.createShader(kind);gl.shaderSource(s,text);
 gl.compileShader(s);if(!gl.getShaderParameter(s,gl.COMPILE_STATUS))throw gl.getShaderInfoLog(s);
 return s};
const program=(v,f)=>{const p=gl.createProgram();gl.attachShader(p,compile(gl.VERTEX_SHADER,v));
 gl.attachShader(p,compile(gl.FRAGMENT_SHADER,f));gl.linkProgram(p);return p};
const dots=program(`attribute vec3 p,q,c;uniform mat4 m;uniform vec3 low,eye;
 uniform float span,size,through;varying vec3 v;void main(){vec3 w=p*span+low;
 gl_Position=m*vec4(w,1.);gl_PointSize=clamp(size/gl_Position.w,1.,24.);v=c;
 if(through>.5&&dot(q,eye-w)<0.)gl_Position=vec4(2.,2.,2.,1.);}`,
 "precision mediump float;varying vec3 v;void main(){gl_FragColor=vec4(v,1.);}");
const strokes=program("attribute vec3 p;uniform mat4 m;void main(){gl_Position=m*vec4(p,1.);}",
 "precision mediump float;uniform vec3 c;void main(){gl_FragColor=vec4(c,1.);}");
const buffer=a=>{const b=gl.createBuffer();gl.bindBuffer(gl.ARRAY_BUFFER,b);
 gl.bufferData(gl.ARRAY_BUFFER,a,gl.STATIC_DRAW);return b};
const P=buffer(bytes(D.p)),Q=buffer(bytes(D.q)),C=buffer(bytes(D.c));
const L=D.lines.map(l=>({...l,n:l.points.length/3,b:buffer(new Float32Array(l.points))}));
const add=(a,b,k=1)=>a.map((x,i)=>x+k*b[i]),dot=(a,b)=>a[0]*b[0]+a[1]*b[1]+a[2]*b[2];
const cross=(a,b)=>[a[1]*b[2]-a[2]*b[1],a[2]*b[0]-a[0]*b[2],a[0]*b[1]-a[1]*b[0]];
const unit=a=>{const n=Math.hypot(...a)||1;return a.map(x=>x/n)};
const up=D.up;let side=unit(cross(up,Math.abs(up[0])<.9?[1,0,0]:[0,0,1])),front=cross(side,up);
let target,yaw,pitch,away;
const look=(eye,to)=>{target=to.slice();const d=add(eye,to,-1);away=Math.hypot(...d)||1;
 pitch=Math.asin(Math.max(-1,Math.min(1,dot(d,up)/away)));yaw=Math.atan2(dot(d,front),dot(d,side))};
const offset=()=>{const c=Math.cos(pitch);return add(add(side.map(x=>x*c*Math.cos(yaw)),
 front,c*Math.sin(yaw)),up,Math.sin(pitch))};
let flight=0;
const views={first:()=>look(D.eye,D.target),above:()=>{look(D.eye,D.target);pitch=1.55},
 path:()=>{const l=L[0];if(l&&l.n>1)flight=performance.now()}};
let held=false;
const draw=()=>{held=false;const w=cv.clientWidth,h=cv.clientHeight,r=devicePixelRatio||1;
 if(cv.width!==Math.round(w*r)||cv.height!==Math.round(h*r)){
  cv.width=Math.round(w*r);cv.height=Math.round(h*r)}
 let o=offset(),eye=add(target,o,away),z=o.map(x=>-x);
 if(flight){const l=L[0],s=(performance.now()-flight)/12000;if(s>=1)flight=0;else{
  const at=s*(l.n-1),k=Math.min(Math.floor(at),l.n-2),f=at-k,pt=j=>l.points.slice(3*j,3*j+3);
  eye=add(pt(k).map(x=>x*(1-f)),pt(k+1),f);eye=add(eye,up,.05);
  const d=add(target,eye,-1);z=unit(add(d,up,-dot(d,up)*.7));request()}}
 const x=unit(cross(z,up)),y=cross(x,z),n=Math.max(away*.005,.02),F=away*20+50,
 f=1/Math.tan(20*Math.PI/180),a=w/Math.max(h,1),t=[-dot(x,eye),-dot(y,eye),dot(z,eye)];
 const A=(F+n)/(n-F),B=2*F*n/(n-F);
 const m=new Float32Array([f/a*x[0],f*y[0],-A*z[0],z[0],f/a*x[1],f*y[1],-A*z[1],z[1],
 f/a*x[2],f*y[2],-A*z[2],z[2],f/a*t[0],f*t[1],A*t[2]+B,-t[2]]);
 gl.viewport(0,0,cv.width,cv.height);gl.clearColor(.972,.972,.98,1);
 gl.clear(gl.COLOR_BUFFER_BIT|gl.DEPTH_BUFFER_BIT);gl.enable(gl.DEPTH_TEST);
 const U=(p,k)=>gl.getUniformLocation(p,k);
 const bind=(p,k,b,n,type,norm)=>{const i=gl.getAttribLocation(p,k);
  gl.bindBuffer(gl.ARRAY_BUFFER,b);gl.enableVertexAttribArray(i);
  gl.vertexAttribPointer(i,n,type,norm,0,0)};
 gl.useProgram(dots);gl.uniformMatrix4fv(U(dots,"m"),false,m);gl.uniform3fv(U(dots,"low"),D.low);
 gl.uniform3fv(U(dots,"eye"),eye);gl.uniform1f(U(dots,"span"),D.span);
 gl.uniform1f(U(dots,"through"),document.getElementById("through").checked?1:0);
 gl.uniform1f(U(dots,"size"),D.size*document.getElementById("size").value/10*f*cv.height/2);
 bind(dots,"p",P,3,gl.UNSIGNED_SHORT,true);bind(dots,"q",Q,3,gl.BYTE,true);
 bind(dots,"c",C,3,gl.UNSIGNED_BYTE,true);gl.drawArrays(gl.POINTS,0,D.n);
 const names=document.getElementById("names");names.textContent="";
 if(document.getElementById("lines").checked){
 gl.disableVertexAttribArray(gl.getAttribLocation(dots,"q"));
 gl.disableVertexAttribArray(gl.getAttribLocation(dots,"c"));
 gl.useProgram(strokes);gl.uniformMatrix4fv(U(strokes,"m"),false,m);
 for(const l of L){gl.uniform3fv(U(strokes,"c"),l.colour);
  bind(strokes,"p",l.b,3,gl.FLOAT,false);gl.drawArrays(gl.LINE_STRIP,0,l.n);
  const e=l.points.slice(-3),q=[0,1,3].map(i=>m[i]*e[0]+m[4+i]*e[1]+m[8+i]*e[2]+m[12+i]);
  if(l.name&&q[2]>0){const s=document.createElement("span");s.textContent=l.name;
   s.style.left=(q[0]/q[2]+1)*w/2+"px";s.style.top=(1-q[1]/q[2])*h/2+"px";names.append(s)}}}};
const request=()=>{if(!held){held=true;requestAnimationFrame(draw)}};
const fingers=new Map();let gap=0;
cv.oncontextmenu=e=>e.preventDefault();
cv.onpointerdown=e=>{flight=0;cv.setPointerCapture(e.pointerId);
 fingers.set(e.pointerId,[e.clientX,e.clientY])};
cv.onpointerup=cv.onpointercancel=e=>{fingers.delete(e.pointerId);gap=0};
const pan=(dx,dy)=>{const z=offset().map(v=>-v),x=unit(cross(z,up)),y=cross(x,z),
 k=away*.73/cv.clientHeight;target=add(add(target,x,-dx*k),y,dy*k)};
cv.onpointermove=e=>{const was=fingers.get(e.pointerId);if(!was)return;
 const dx=e.clientX-was[0],dy=e.clientY-was[1];fingers.set(e.pointerId,[e.clientX,e.clientY]);
 if(fingers.size>1){const [a,b]=[...fingers.values()],g=Math.hypot(a[0]-b[0],a[1]-b[1]);
  if(gap)away*=gap/g;gap=g;pan(dx/2,dy/2)}
 else if(e.buttons&2||e.shiftKey)pan(dx,dy);
 else{yaw-=dx*.006*(dot(cross(side,front),up)>0?1:-1);
  pitch=Math.max(-1.55,Math.min(1.55,pitch+dy*.006))}
 request()};
cv.onwheel=e=>{e.preventDefault();
 away*=Math.exp(Math.max(-60,Math.min(60,e.deltaY))*.002);request()};
cv.onkeydown=e=>{const s={ArrowLeft:[-30,0],ArrowRight:[30,0],ArrowUp:[0,-30],
 ArrowDown:[0,30]}[e.key];
 if(s){e.preventDefault();yaw-=s[0]*.006;pitch=Math.max(-1.55,Math.min(1.55,pitch+s[1]*.006))}
 else if(e.key==="+")away*=.9;else if(e.key==="-")away/=.9;else return;request()};
cv.ondblclick=()=>{views.first();request()};
for(const b of box.querySelectorAll("button"))
 b.onclick=()=>{flight=0;views[b.dataset.view]();request()};
for(const i of box.querySelectorAll("input"))i.oninput=request;
addEventListener("resize",request);views.first();request();
})();
</script>
"""

VIEWER_STYLE = """
.viewer{position:relative;border:1px solid #ddd;background:#f8f8fa;overflow:hidden}
.viewer canvas{display:block;width:100%;height:min(70vh,620px);touch-action:none;cursor:grab}
#names{position:absolute;inset:0;pointer-events:none}
#names span{position:absolute;font-size:12px;background:#fffc;padding:0 4px;border-radius:3px}
.bar{display:flex;flex-wrap:wrap;gap:6px 14px;align-items:center;padding:6px 10px;background:#fff;
border-top:1px solid #ddd;font-size:13px;position:relative}
.bar input[type=range]{width:90px;vertical-align:middle}.hint{color:#777}
"""
