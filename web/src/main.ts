import { mount } from 'svelte';
import App from './App.svelte';
import './app.css';

// After an update of the server the files of the old version are gone: load the page once more.
addEventListener('vite:preloadError', (event) => {
  const last = Number(sessionStorage.getItem('muster-reloaded') ?? 0);
  if (Date.now() - last < 10_000) return;
  event.preventDefault();
  sessionStorage.setItem('muster-reloaded', String(Date.now()));
  location.reload();
});

mount(App, { target: document.getElementById('app')! });
