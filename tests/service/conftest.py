from xotest.boards import board, board_url, empty_postgres, postgres

__all__ = ["board", "board_url", "empty_postgres", "postgres"]
