"""`--show`: pictures in a window, with Python's own Tk, because OpenCV comes without windows (headless)."""

from __future__ import annotations

from typing import Any

import cv2

from repose import viz
from repose.errors import UserError


class Window:
    """A window that is open until somebody closes it or presses q or Escape.

    Attributes:
        closed: whether somebody did.
    """

    def __init__(self, title: str) -> None:
        """Args: title: of the window.

        Raises:
            UserError: there is no display, or this Python has no Tk.
        """
        try:
            import tkinter
        except ImportError:
            raise UserError(
                "--show: this Python has no Tk (Debian and Ubuntu: apt install python3-tk); leave --show out, "
                "the pictures are written all the same"
            ) from None
        try:
            self._root: Any = tkinter.Tk()
        except tkinter.TclError:
            raise UserError(
                "--show: no display here ($DISPLAY); leave --show out, the pictures are written all the same"
            ) from None
        self._tk = tkinter
        self.closed = False
        self._root.title(title)
        self._label: Any = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._image: Any = None
        self._root.protocol("WM_DELETE_WINDOW", self._close)
        for key in ("q", "<Escape>"):
            self._root.bind(key, self._close)
        self._room = (self._root.winfo_screenwidth() * 9 // 10, self._root.winfo_screenheight() * 8 // 10)

    def show(self, image_HW3: viz.Image) -> None:
        """Show a picture (RGB), made smaller where the screen is."""
        if self.closed:
            return
        height, width = image_HW3.shape[:2]
        scale = min(self._room[0] / width, self._room[1] / height, 1.0)
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            image_HW3 = viz.as_image(cv2.resize(image_HW3, size, interpolation=cv2.INTER_AREA))
        _, code = cv2.imencode(".ppm", cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR))
        self._image = self._tk.PhotoImage(data=code.tobytes())  # Tk keeps no reference of its own
        self._label.configure(image=self._image)
        self._root.update()

    def wait(self) -> None:
        """Wait until somebody closes the window."""
        if not self.closed:
            self._root.mainloop()

    def _close(self, event: Any = None) -> None:
        self.closed = True
        self._root.quit()
        self._root.destroy()
