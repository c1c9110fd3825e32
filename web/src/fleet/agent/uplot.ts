/** The drawing of charts, loaded with the first one. */
import 'uplot/dist/uPlot.min.css';
export { default } from 'uplot';
