"""``python -m vitrine``, and the application that spark-submit starts."""

from vitrine.cli.main import main

if __name__ == "__main__":
    main()
