// Applies the chosen theme before anything is drawn, so that the page does not flash in the other one.
import { applyTheme, storedTheme } from "./theme.ts";

applyTheme(storedTheme());
