
// Each film is built when it is first opened.
const films = JSON.parse(document.getElementById("films").textContent);
for (const details of document.querySelectorAll("details.films")) {
  details.addEventListener("toggle", () => showFilm(details.lastElementChild, films[details.dataset.film].film), { once: true });
}
